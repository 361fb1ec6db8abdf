// SPDX-License-Identifier: Apache-2.0
//! Judges the loss of each stage of a fault against its bound.

use std::ops::Range;

use tokio::time::Instant;

use super::{Bound, Fault, perform::Observations};
use crate::run::{
    Run,
    bring_up::milliseconds,
    traffic::{self, Direction, Traffic},
    verdict::Verdict,
};

/// The verdict of a fault: nothing was lost before it, no stage disturbed a direction for longer
/// than promised, nothing leaked.
pub(super) fn judge(run: &Run, fault: &Fault, traffic: &Traffic, observations: &Observations) -> Verdict {
    let leaked = traffic.leaked(&run.world);
    let mut verdict = Verdict::new(fault.promise, leaked == 0).figure("leaked", leaked);
    for (index, direction) in Direction::BOTH.into_iter().enumerate() {
        if traffic.loss(direction, observations.before.clone()).lost > 0 {
            verdict = judge_part(verdict, traffic, direction, "before", Bound::Nothing, &observations.before);
        }
        for (stage, period) in fault.stages.iter().zip(&observations.stages) {
            verdict = judge_part(verdict, traffic, direction, stage.name, stage.bounds[index], period);
        }
    }
    if let Some(within) = fault.restored {
        verdict.ok &= observations.restored.is_some_and(|restored| restored <= within);
        verdict = verdict.figure("kernel as before ms", observations.restored.map(milliseconds));
    }
    match &observations.status {
        Some(status) => verdict.figure("status", status.as_str()),
        None => verdict,
    }
}

fn judge_part(
    mut verdict: Verdict,
    traffic: &Traffic,
    direction: Direction,
    stage: &str,
    bound: Bound,
    period: &Range<Instant>,
) -> Verdict {
    let name = format!("{} {stage}", direction.name()).trim_end().to_owned();
    let loss = traffic.loss(direction, period.clone());
    let holds = loss.sent > 0 && bound.holds(loss);
    if !holds {
        let details = traffic.details(direction, period);
        eprintln!("          {name}: promised {bound:?}\n          {details}");
    }
    verdict.ok &= holds;
    verdict.figure(&name, traffic::figure(loss))
}
