// SPDX-License-Identifier: Apache-2.0

//! Tracks load balancers whose links have become ports.
//!
//! A load balancer that resolves the MAC address of a target before its link is a port gets no
//! answer, and holds its packets back until it tries again, a second later. So the targets are
//! announced to it as soon as its link is a port, but at most once a second: a link that comes and
//! goes does not cause an announcement of every target each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::kernel::{Peer, PeerId, Role};

/// Shortest time between two announcements to the same load balancer.
const AGAIN: Duration = Duration::from_secs(1);

/// The load balancers, and which of them wait for an announcement.
#[derive(Default)]
pub(super) struct Joined(BTreeMap<PeerId, Joining>);

struct Joining {
    /// Indices of its ports.
    ports: BTreeSet<u32>,
    /// A link of it has become a port since the last announcement.
    waits: bool,
    /// Earliest time of the next announcement.
    due: Instant,
}

impl Joined {
    /// Updates the ports of each load balancer.
    pub(super) fn follow(&mut self, peers: &BTreeMap<PeerId, Peer>, now: Instant) {
        self.0.retain(|id, _| peers.contains_key(id));
        for (id, peer) in peers.iter().filter(|(id, _)| id.role == Role::LoadBalancer) {
            let known = self.0.entry(id.clone()).or_insert_with(|| Joining {
                ports: BTreeSet::new(),
                waits: false,
                due: now,
            });
            known.waits |= !peer.running.is_subset(&known.ports);
            known.ports.clone_from(&peer.running);
        }
    }

    /// Whether a load balancer waits for an announcement.
    pub(super) fn waits(&self) -> bool {
        self.0.values().any(|joining| joining.waits)
    }

    /// Whether the targets should be announced now. The announcement reaches all waiting load
    /// balancers.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.0.values().any(|joining| joining.waits && joining.due <= now);
        for joining in self.0.values_mut().filter(|joining| is_due && joining.waits) {
            joining.waits = false;
            joining.due = now + AGAIN;
        }
        is_due
    }
}
