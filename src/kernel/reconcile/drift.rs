// SPDX-License-Identifier: Apache-2.0

//! Detects changes by other programs: changes that a plan makes although the last pass reached the
//! same desired state.
//!
//! A link that appears has to be made a port; that is not drift.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::kernel::{Desired, Observed, Op};

/// The state that the last pass left, and when it was last found changed by another program.
#[derive(Default)]
pub(super) struct Drift {
    left: Option<Left>,
    last: Option<Instant>,
}

struct Left {
    desired: Desired,
    /// Indices of the ports.
    ports: BTreeSet<u32>,
}

impl Drift {
    /// Number of changes of a plan that revert changes of other programs.
    pub(super) fn of(&self, desired: &Desired, plan: &[Op]) -> usize {
        let Some(left) = self.left.as_ref().filter(|left| left.desired == *desired) else { return 0 };
        let ours = |op: &&Op| match op {
            Op::Attach(_, index) => left.ports.contains(index),
            _ => true,
        };
        plan.iter().filter(ours).count()
    }

    /// Records the drift at the first read of a pass. It counts as recent for some time, because
    /// another program may keep reverting.
    pub(super) fn note(&mut self, found: usize, recent: Duration) {
        let now = Instant::now();
        let last = self.last.filter(|at| now < *at + recent);
        self.last = if found > 0 { Some(now) } else { last };
    }

    /// Records the state that a pass leaves, if it is the desired one.
    pub(super) fn leave(&mut self, reached: Option<(&Desired, &Observed)>) {
        self.left = reached.map(|(desired, observed)| {
            let bridge = observed.bridge(&desired.ours);
            let ports = bridge.into_iter().flat_map(|bridge| observed.ports_of(bridge.index));
            Left { desired: desired.clone(), ports: ports.map(|(_, link)| link.index).collect() }
        });
    }

    /// Whether another program has changed something recently.
    pub(super) fn is_recent(&self) -> bool {
        self.last.is_some()
    }
}
