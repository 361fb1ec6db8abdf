// SPDX-License-Identifier: Apache-2.0

//! Counts the work of the prober and of the announcer, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers since the start. They are read at any time, and nothing waits for a reader.
#[derive(Debug, Default)]
pub struct Work {
    probes: AtomicU64,
    silences: AtomicU64,
    announcements: AtomicU64,
}

impl Work {
    /// Answers of load balancers that were looked for.
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Times that a load balancer was found silent.
    pub fn silences(&self) -> u64 {
        self.silences.load(Ordering::Relaxed)
    }

    /// Announcements of addresses that were sent.
    pub fn announcements(&self) -> u64 {
        self.announcements.load(Ordering::Relaxed)
    }

    pub(super) fn probed(&self, addresses: usize) {
        self.probes.fetch_add(addresses as u64, Ordering::Relaxed);
    }

    pub(super) fn silenced(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn announced(&self) {
        self.announcements.fetch_add(1, Ordering::Relaxed);
    }
}
