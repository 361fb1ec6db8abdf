// SPDX-License-Identifier: Apache-2.0

//! Find what others have changed: what is to be done although the last pass left everything as it is still desired.
//!
//! A link that appears has to be made a port and is no drift.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::kernel::{Desired, Observed, Op};

/// What the last pass left, and when others were found to have changed it.
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
    /// How many changes of a plan take back what others have done.
    pub(super) fn of(&self, desired: &Desired, plan: &[Op]) -> usize {
        let Some(left) = self.left.as_ref().filter(|left| left.desired == *desired) else { return 0 };
        let ours = |op: &&Op| match op {
            Op::Attach(_, index) => left.ports.contains(index),
            _ => true,
        };
        plan.iter().filter(ours).count()
    }

    /// Note what a pass has found at its first look. Drift counts as recent for some time: it may be a fight.
    pub(super) fn note(&mut self, found: usize, recent: Duration) {
        let now = Instant::now();
        let last = self.last.filter(|at| now < *at + recent);
        self.last = if found > 0 { Some(now) } else { last };
    }

    /// Note what a pass leaves, if it is all that is desired.
    pub(super) fn leave(&mut self, reached: Option<(&Desired, &Observed)>) {
        self.left = reached.map(|(desired, observed)| {
            let bridge = observed.bridge(&desired.ours);
            let ports = bridge.into_iter().flat_map(|bridge| observed.ports_of(bridge.index));
            Left { desired: desired.clone(), ports: ports.map(|(_, link)| link.index).collect() }
        });
    }

    /// Whether others have changed something recently.
    pub(super) fn is_recent(&self) -> bool {
        self.last.is_some()
    }
}
