// SPDX-License-Identifier: Apache-2.0
//! Collects the degradations of a part from all sources.

use std::collections::BTreeMap;

/// Maximum number of degradations of one source; one more entry counts the rest.
const MAX_PER_SOURCE: usize = 16;

/// The degradations of a part, by source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Degraded(BTreeMap<&'static str, Vec<String>>);

/// Degradations that a source reports for the first time, and those that it no longer reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy::health) struct Changes {
    pub(in crate::proxy::health) begun: Vec<String>,
    pub(in crate::proxy::health) over: Vec<String>,
}

impl Changes {
    pub(in crate::proxy::health) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.over.is_empty()
    }
}

impl Degraded {
    pub(super) fn replace(&mut self, source: &'static str, mut found: Vec<String>) -> Changes {
        if found.len() > MAX_PER_SOURCE {
            let more = found.len() - MAX_PER_SOURCE;
            found.truncate(MAX_PER_SOURCE);
            found.push(format!("and {more} more"));
        }
        let without = |these: &[String], those: &[String]| {
            these.iter().filter(|what| !those.contains(what)).cloned().collect()
        };
        let before = self.0.remove(source).unwrap_or_default();
        let changes = Changes { begun: without(&found, &before), over: without(&before, &found) };
        if !found.is_empty() {
            self.0.insert(source, found);
        }
        changes
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.values().flatten().cloned().collect()
    }
}
