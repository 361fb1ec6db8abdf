// SPDX-License-Identifier: Apache-2.0

//! Detects changes by other programs: changes that a plan makes although the last pass reached a
//! state in which they were made, and nothing else is desired since.
//!
//! 1. Each change is compared on its own, with the part of the desired state that asks for it. So a
//!    change by another program is found also if something else is desired meanwhile, or because of
//!    it: without the addresses of the bridge, no next hop is desired.
//! 2. A link that appears has to be made a port; that is not drift.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    api::Family,
    kernel::{Desired, Observed, Op},
};

/// Number of reverted changes that are named.
const NAMED: usize = 8;

/// The state that the last pass left, and when it was last found changed by another program.
#[derive(Default)]
pub(super) struct Drift {
    left: Option<Left>,
    last: Option<(Instant, Arc<[String]>)>,
}

struct Left {
    desired: Desired,
    /// Indices of the ports.
    ports: BTreeSet<u32>,
}

impl Left {
    /// Whether a change reverts one of another program (rule 1).
    fn had(&self, op: &Op, now: &Desired) -> bool {
        let then = &self.desired;
        match op {
            Op::Attach(_, index) => self.ports.contains(index), // rule 2
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
            Op::SetNextHops(family, _) => hops(then, *family).eq(hops(now, *family)),
            Op::DeleteRoute(..) | Op::SetBlackhole(_) => then.next_hops == now.next_hops,
            Op::CreateBridge(_) | Op::RaiseBridge | Op::ConfigureBridge | Op::DeleteBridge => {
                then.present == now.present
            }
            Op::ForgetNeighbour(_) => false,
        }
    }
}

/// The next hops of a family.
fn hops(desired: &Desired, family: Family) -> impl Iterator<Item = &IpAddr> {
    desired.next_hops.iter().filter(move |hop| Family::of(**hop) == family)
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

    /// Records the state that a pass leaves, if it is the desired one.
    pub(super) fn leave(&mut self, reached: Option<(&Desired, &Observed)>) {
        self.left = reached.map(|(desired, observed)| {
            let bridge = observed.bridge(&desired.ours);
            let ports = bridge.into_iter().flat_map(|bridge| observed.ports_of(bridge.index));
            Left { desired: desired.clone(), ports: ports.map(|(_, link)| link.index).collect() }
        });
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
