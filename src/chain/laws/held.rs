// SPDX-License-Identifier: Apache-2.0

//! The resources held at one moment.

use std::collections::BTreeSet;

use super::{Broken, broken};

/// The resources of a connection, and of the whole runtime.
#[derive(Debug, PartialEq)]
pub(super) struct Held {
    /// Names and addresses of the values in the scope.
    pub(super) scope: Vec<(&'static str, usize)>,
    /// The values of the inner service in the scope.
    pub(super) inner: BTreeSet<usize>,
    pub(super) tasks: usize,
    pub(super) witness: usize,
}

impl Held {
    /// The same as before.
    pub(super) fn same(&self, law: &'static str, before: &Held) -> Result<(), Broken> {
        let kept = self == before;
        self.judged(kept, law, before)
    }

    /// As much as before, whether or not it is the same.
    pub(super) fn as_many(&self, law: &'static str, before: &Held) -> Result<(), Broken> {
        let kept = self.size() == before.size();
        self.judged(kept, law, before)
    }

    /// No new resource outside the scope.
    pub(super) fn no_more(&self, law: &'static str, before: &Held) -> Result<(), Broken> {
        let kept = self.tasks <= before.tasks && self.witness <= before.witness;
        self.judged(kept, law, before)
    }

    fn size(&self) -> (Vec<&'static str>, usize, usize, usize) {
        let names = self.scope.iter().map(|(name, _)| *name).collect();
        (names, self.inner.len(), self.tasks, self.witness)
    }

    fn judged(&self, kept: bool, law: &'static str, before: &Held) -> Result<(), Broken> {
        if kept { Ok(()) } else { broken(law, format!("{before:?} became {self:?}")) }
    }
}
