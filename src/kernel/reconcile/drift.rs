// SPDX-License-Identifier: Apache-2.0

//! Detects changes by other programs: changes that a plan makes although the last pass reached the
//! same desired state.
//!
//! A link that appears has to be made a port; that is not drift.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::kernel::{Desired, Observed, Op};

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

impl Drift {
    /// The changes of a plan that revert changes of other programs.
    pub(super) fn of(&self, desired: &Desired, plan: &[Op]) -> Reverted {
        let Some(left) = self.left.as_ref().filter(|left| left.desired == *desired) else {
            return Reverted::default();
        };
        let reverts = plan.iter().filter(|op| match op {
            Op::Attach(_, index) => left.ports.contains(index),
            _ => true,
        });
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
