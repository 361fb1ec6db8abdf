// SPDX-License-Identifier: Apache-2.0

//! Detects changes by other programs: changes that a plan makes although the last pass reached a
//! state in which they were made, and nothing else is desired since.
//!
//! 1. Each change is compared on its own, with the part of the desired state that asks for it. So a
//!    change by another program is found also if something else is desired meanwhile, or because of
//!    it: without the addresses of the bridge, no next hop is desired.
//! 2. A link that appears has to be made a port; that is not drift.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    api::{Family, InterfaceName},
    kernel::{Desired, Observed, Op, Peer, PeerId},
};

/// Number of reverted changes that are named.
const NAMED: usize = 8;

/// The state that the last pass left, and when it was last found changed by another program.
#[derive(Default)]
pub(super) struct Drift {
    left: Option<Left>,
    last: Option<(Instant, Arc<[String]>)>,
    /// The indices of the ports that each peer has, or had last.
    of_peers: BTreeMap<PeerId, BTreeSet<u32>>,
}

struct Left {
    desired: Desired,
    /// The ports, with their indices.
    ports: BTreeMap<InterfaceName, u32>,
}

impl Left {
    /// Whether a change reverts one of another program (rule 1).
    fn had(&self, op: &Op, now: &Desired) -> bool {
        let then = &self.desired;
        match op {
            Op::Attach(_, index) => self.ports.values().any(|port| port == index), // rule 2
            Op::Detach(..) => then.leaving == now.leaving,
            // The leak stop of a link goes with the link.
            Op::DeleteRule(rule) if rule.stops_leaks_of(&now.ours).is_some() => false,
            Op::AddRule(_) | Op::DeleteRule(_) => {
                then.present == now.present
                    && then.vip_rules == now.vip_rules
                    && then.ports == now.ports
                    && then.leaving == now.leaving
            }
            Op::AddAddress(_) | Op::DeleteAddress(_) => then.addresses == now.addresses,
            Op::SetNextHops(family, _) => hops(then, *family) == hops(now, *family),
            Op::DeleteRoute(..) | Op::SetBlackhole(_) => then.next_hops == now.next_hops,
            Op::CreateBridge(_) | Op::RaiseBridge | Op::ConfigureBridge | Op::DeleteBridge => {
                then.present == now.present
            }
            Op::ForgetNeighbour(_) => false,
        }
    }
}

/// The next hops of a family.
fn hops(desired: &Desired, family: Family) -> BTreeSet<IpAddr> {
    desired.next_hops.iter().filter(|hop| Family::of(**hop) == family).copied().collect()
}

impl Drift {
    /// The changes of a plan that revert changes of other programs.
    pub(super) fn of(&self, desired: &Desired, plan: &[Op]) -> Reverted {
        let Some(left) = &self.left else { return Reverted::default() };
        let reverts = plan.iter().filter(|op| left.had(op, desired));
        Reverted { count: reverts.clone().count(), named: reverts.take(NAMED).map(Op::to_string).collect() }
    }

    /// Records the drift at the first read of a pass. It counts as recent for some time, because
    /// another program may keep reverting.
    pub(super) fn note(&mut self, found: Reverted, recent: Duration) {
        let now = Instant::now();
        let last = self.last.take().filter(|(at, _)| now < *at + recent);
        self.last = if found.count > 0 { Some((now, found.named.into())) } else { last };
    }

    /// Records the state that a pass leaves, if it is the desired one. Returns the peers that have
    /// another link than before.
    pub(super) fn leave(
        &mut self,
        reached: Option<(&Desired, &Observed)>,
        peers: &BTreeMap<PeerId, Peer>,
    ) -> Vec<PeerId> {
        let Some((desired, observed)) = reached else {
            self.left = None;
            return Vec::new();
        };
        let bridge = observed.bridge(&desired.ours);
        let ports = bridge.into_iter().flat_map(|bridge| observed.ports_of(bridge.index));
        let ports: BTreeMap<_, _> = ports.map(|(name, link)| (name.clone(), link.index)).collect();
        let mut before = std::mem::take(&mut self.of_peers);
        let mut changed = Vec::new();
        for (id, peer) in peers {
            let has: BTreeSet<_> = peer.links.keys().filter_map(|link| ports.get(link)).copied().collect();
            let had = before.remove(id).unwrap_or_default();
            if !had.is_empty() && !has.is_subset(&had) {
                changed.push(id.clone());
            }
            self.of_peers.insert(id.clone(), if has.is_empty() { had } else { has });
        }
        self.left = Some(Left { desired: desired.clone(), ports });
        changed
    }

    /// The changes that reverted the last recent ones of another program; empty if there are none.
    pub(super) fn recent(&self) -> Arc<[String]> {
        self.last.as_ref().map(|(_, named)| Arc::clone(named)).unwrap_or_default()
    }
}

/// The changes of a pass that revert changes of other programs.
#[derive(Clone, Debug, Default)]
pub(super) struct Reverted {
    pub(super) count: usize,
    /// The first of them.
    named: Vec<String>,
}
