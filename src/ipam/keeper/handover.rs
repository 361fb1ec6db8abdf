// SPDX-License-Identifier: Apache-2.0

//! Take leases over from an earlier process, and record them for a later one.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Keeper;
use crate::ipam::{
    Allocator, BRIDGE,
    entry::Entry,
    restored::Record,
    state::{Answers, Phase, State},
};

/// Time over which renewals are spread that are brought forward.
const SOON: Duration = Duration::from_secs(5);

impl<A: Allocator> Keeper<A> {
    /// What a later process may go on with.
    pub(super) fn records(&self) -> Vec<Record> {
        let record = |(child, entry): (&Arc<str>, &Entry)| {
            let addresses = entry.state.recorded()?;
            Some(Record { child: Arc::clone(child), owner: entry.tag.clone(), addresses })
        };
        let mut records: Vec<_> =
            self.entries.iter().filter_map(record).chain(self.restored.records()).collect();
        records.sort_unstable_by(|a, b| a.child.cmp(&b.child));
        records
    }

    /// Take the addresses that the service has given to a name from the records of others.
    pub(super) fn given(&mut self, child: &str, answers: &Answers) {
        for net in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
            self.restored.answered(Instant::now());
            if let Some(before) = self.restored.given(net.addr()) {
                tracing::warn!(
                    address = %net.addr(), %before, now = child,
                    "the address service has given an address of the earlier process to another name"
                );
            }
        }
    }

    /// Renew some of the held leases within [`SOON`], that of the bridge at once. The service has lost more than one name when it answers other
    /// addresses for one, and confirms them all when it is back.
    pub(super) fn renew_soon(&mut self, which: impl Fn(&State) -> bool) {
        let now = Instant::now();
        if self.hurried.is_some_and(|at| now < at + SOON) {
            return;
        }
        self.hurried = Some(now);
        let held = |entry: &Entry| matches!(entry.state.phase, Phase::Held { .. }) && which(&entry.state);
        let children: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| held(entry))
            .map(|(child, _)| Arc::clone(child))
            .collect();
        for child in children {
            let within = if *child == *BRIDGE { Duration::ZERO } else { SOON };
            self.step(&child, |entry| entry.renew_soon(within));
        }
    }
}
