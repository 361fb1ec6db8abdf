// SPDX-License-Identifier: Apache-2.0
//! The faults around the proxy, and how much each may disturb each direction of traffic.
//!
//! A fault is an entry of a [`list`](FAULTS): stages, one after the other, each with acts on the
//! world and the longest disturbance from them to the next stage.

mod act;
mod judge;
mod list;
mod perform;
mod renumber;
mod status;

use std::time::Duration;

use self::perform::perform;
pub(super) use self::{act::Act, list::FAULTS, perform::whole, status::Glances};
use super::Run;
use crate::{error::LabError, traffic::record::Loss};

/// A fault.
pub(super) struct Fault {
    /// Its name, by which it is selected or skipped.
    pub name: &'static str,
    /// The promise, which is the verdict's name.
    pub promise: &'static str,
    /// Its stages.
    pub stages: &'static [Stage],
    /// How long the kernel of the first proxy may take to be as it was before.
    pub restored: Option<Duration>,
}

/// A part of a fault.
pub(super) struct Stage {
    /// Its name in the figures, behind that of the direction.
    pub name: &'static str,
    /// The acts at its start.
    pub acts: &'static [Act],
    /// Longest disturbance of ingress and egress from then to its end.
    pub bounds: [Bound; 2],
    /// Time to the next stage; the last stage ends when traffic is whole.
    pub lasts: Duration,
}

/// How much a direction may be disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Nothing is lost.
    Nothing,
    /// The first datagram after the last lost one is sent this long after the acts, at most.
    Within(Duration),
    /// No flow has a gap longer than this. The consequences of the acts come connection by
    /// connection.
    Gaps(Duration),
    /// Not judged, because the fault removes the path itself.
    Any,
}

impl Bound {
    fn holds(self, loss: Loss) -> bool {
        match self {
            Self::Nothing => loss.lost == 0,
            Self::Within(longest) => loss.whole_after.is_some_and(|after| after <= longest),
            Self::Gaps(longest) => loss.whole_after.is_some() && loss.longest_gap <= longest,
            Self::Any => true,
        }
    }
}

/// Performs every selected fault of the list.
pub(super) async fn all(run: &mut Run) -> Result<(), LabError> {
    let plan = run.plan.clone();
    for fault in FAULTS.iter().filter(|fault| plan.takes(fault.name)) {
        perform(run, fault).await?;
    }
    status::judge(run);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_by_the_table() {
        let second = Duration::from_secs(1);
        let loss = |lost, longest_gap, whole_after| Loss { sent: 9, lost, longest_gap, whole_after };
        let nothing = loss(0, Duration::ZERO, Some(Duration::ZERO));
        let early = loss(1, second, Some(second));
        let late = loss(1, second, Some(second * 2));
        let never = loss(1, second, None);
        let table = [
            (Bound::Nothing, [true, false, false, false]),
            (Bound::Within(second), [true, true, false, false]),
            (Bound::Gaps(second), [true, true, true, false]),
            (Bound::Gaps(second / 2), [true, false, false, false]),
            (Bound::Any, [true, true, true, true]),
        ];
        for (bound, expected) in table {
            assert_eq!([nothing, early, late, never].map(|loss| bound.holds(loss)), expected, "{bound:?}");
        }
    }
}
