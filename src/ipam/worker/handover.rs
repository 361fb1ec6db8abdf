// SPDX-License-Identifier: Apache-2.0

//! Takes leases over from an earlier process, and records them for a later one.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Worker;
use crate::ipam::{
    Allocator, BRIDGE,
    restored::Record,
    state::{Answers, Phase, State},
};

/// Time over which renewals that are brought forward are spread.
const SOON: Duration = Duration::from_secs(5);

impl<A: Allocator> Worker<A> {
    /// The leases that a later process may continue.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(child, entry)| {
                let addresses = entry.state.recorded()?;
                Some(Record { child: Arc::clone(child), owner: entry.tag.clone(), addresses })
            })
            .chain(self.restored.records())
            .collect();
        records.sort_unstable_by(|a, b| a.child.cmp(&b.child));
        records
    }

    /// Removes the addresses that the service has given to a name from the records of others.
    pub(super) fn withdraw_addresses(&mut self, child: &str, answers: &Answers) {
        for net in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
            self.restored.answered(Instant::now());
            if let Some(before) = self.restored.withdraw(net.addr()) {
                tracing::warn!(
                    address = %net.addr(), %before, now = child,
                    "the address service has given an address of the earlier process to another name"
                );
            }
        }
    }

    /// Renews some of the held leases within [`SOON`], that of the bridge at once. A service that
    /// returns other addresses for one name has lost more than one, and one that is back confirms
    /// them all.
    pub(super) fn renew_soon(&mut self, which: impl Fn(&State) -> bool) {
        let now = Instant::now();
        if self.hurried.is_some_and(|at| now < at + SOON) {
            return;
        }
        self.hurried = Some(now);
        let children: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state.phase, Phase::Held { .. }) && which(&entry.state))
            .map(|(child, _)| Arc::clone(child))
            .collect();
        for child in children {
            let within = if *child == *BRIDGE { Duration::ZERO } else { SOON };
            self.step(&child, |entry| entry.renew_soon(within));
        }
    }
}
