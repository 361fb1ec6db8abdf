// SPDX-License-Identifier: Apache-2.0
//! Judges the cause that `proxy status` shows at first glance: while a fault lasts, its first
//! problem; for a fault that is over at once, the first problem or one of the newest events.
//!
//! There is a verdict on all faults, which need not be right each time, and none is left out. After
//! a fault, the proxy has to be well again.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::{Fault, Stage};
use crate::{
    error::{Doing, LabError},
    run::{Run, eventually, verdict::Verdict},
    world::World,
};

/// The part of the faults whose cause has to be right.
const RIGHT: f64 = 0.95;
/// The first problem of a proxy that does not run.
const GONE: &str = "no proxy answers";
/// Time from a fault that is over at once to the first look.
const GLANCE: Duration = Duration::from_millis(500);
/// Time until the proxy is well after a fault, but for problems that stay for a while.
const WELL: Duration = Duration::from_secs(60);
/// The beginnings of problems that stay for a while: changes by others, which are taken back at
/// once, and the former addresses of the bridge.
const STAYING: [&str; 2] = ["others change what is declared", "IPAM has moved addresses"];

/// Where a cause is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It is the first problem.
    First(&'static str),
    /// The proxy is well without the lost part, and one of the newest events names it.
    Well(&'static str),
}

use Shown::{First, Well};

/// The cause of each fault, and the stage at whose end it is asked for.
const CAUSES: &[(&str, &str, Shown)] = &[
    ("lb-leaves", "gone", Well("lb1")),
    ("lb-silent", "gone", First("load balancer lb1")),
    ("lb-hangs", "gone", First("load balancer lb2")),
    ("lb-unlinked", "gone", First("load balancer lb2")),
    ("every-lb-gone", "gone", First("lists no load balancer")),
    ("target-relinked", "", Well("target t1")),
    ("proxy-killed", "gone", First(GONE)),
    ("proxy-terminated", "gone", First(GONE)),
    ("proxy-terminated-beside-hung", "gone", First(GONE)),
    ("proxy-terminated-amid-hung", "gone", First(GONE)),
    ("restart-without-spire", "waiting", First("SPIFFE Workload API")),
    ("restart-without-ipam", "without them", First("IPAM")),
    ("nsmgr-away", "gone", First("nsmgr (")),
    ("forwarder-away", "gone", First("forwarder")),
    ("ipam-away", "gone", First("IPAM")),
    ("nsp-away", "gone", First("NSP")),
    ("workload-api-away", "gone", First("Workload API")),
    ("rules-deleted", "", First("taken back: add rule")),
    ("ports-released", "", First("a port of the bridge")),
    ("addresses-removed", "", First("taken back: add address")),
    ("routes-flushed", "", First("next hops")),
    ("renumbered", "", First("IPAM has moved addresses")),
];

/// The answers of `proxy status` to the faults so far.
#[derive(Clone, Debug, Default)]
pub(in crate::run) struct Glances {
    right: usize,
    misses: Vec<String>,
}

/// An answer of `proxy status`.
#[derive(Clone, Debug, Default)]
struct Answer {
    problems: Vec<String>,
    latest: Vec<String>,
}

impl Answer {
    fn first(&self) -> &str {
        self.problems.first().map_or("", String::as_str)
    }

    fn shows(&self, cause: Shown) -> bool {
        match cause {
            First(cause) => self.first().contains(cause),
            Well(cause) => self.lasting().is_empty() && self.latest.iter().any(|event| event.contains(cause)),
        }
    }

    /// The problems without those that stay for a while.
    fn lasting(&self) -> Vec<&String> {
        let all = self.problems.iter();
        all.filter(|problem| !STAYING.iter().any(|staying| problem.starts_with(staying))).collect()
    }
}

/// Asks the proxy; `None` if another program is in its place.
async fn ask(world: &World) -> Result<Option<Answer>, LabError> {
    let Some(output) = world.ask_proxy("status --json").await? else { return Ok(None) };
    if output.stdout.is_empty() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let first = complaint.trim().trim_start_matches("proxy: ").to_owned();
        return Ok(Some(Answer { problems: vec![first], latest: Vec::new() }));
    }
    let answer: Value = serde_json::from_slice(&output.stdout).doing(|| "read proxy status".into())?;
    let problems = answer["problems"].as_array().into_iter().flatten();
    let latest = answer["latest"].as_array().into_iter().flatten();
    Ok(Some(Answer {
        problems: problems.map(|one| one["problem"].as_str().unwrap_or_default().to_owned()).collect(),
        latest: latest.map(ToString::to_string).collect(),
    }))
}

/// Asks the proxy at the end of a stage. Returns the figure for the verdict of the fault, if the
/// stage is the one.
pub(super) async fn glance(run: &mut Run, fault: &Fault, stage: &Stage) -> Result<Option<String>, LabError> {
    let named = CAUSES.iter().find(|(name, at, _)| (*name, *at) == (fault.name, stage.name));
    let Some((_, _, cause)) = named else { return Ok(None) };
    if stage.lasts.is_zero() {
        sleep(GLANCE).await;
    }
    let Some(answer) = ask(&run.world).await? else { return Ok(None) };
    let seen = match cause {
        First(_) => answer.first().to_owned(),
        Well(_) => format!("{:?}, latest {}", answer.problems, answer.latest.join(" ")),
    };
    if answer.shows(*cause) {
        run.glances.right += 1;
    } else {
        run.glances.misses.push(format!("{}: {cause:?} expected, {seen}", fault.name));
    }
    Ok(Some(format!("{cause:?}: {seen}")))
}

/// Waits until the proxy is well after a fault; otherwise that is a verdict.
pub(super) async fn is_well_again(run: &mut Run, fault: &Fault) {
    let well = eventually("the proxy is well", WELL, async || match ask(&run.world).await {
        Ok(answer) => match answer.unwrap_or_default().lasting().as_slice() {
            [] => Ok(()),
            problems => Err(format!("{problems:?}")),
        },
        Err(error) => Err(nsm::chain::causes(&error)),
    });
    if let Err(error) = well.await {
        let verdict = Verdict::new("status shows that the proxy is well after a fault", false);
        let verdict = verdict.figure("fault", fault.name);
        run.judge(verdict.figure("stopped by", nsm::chain::causes(&error)));
    }
}

/// The verdict on all faults.
pub(super) fn judge(run: &mut Run) {
    let Glances { right, misses } = std::mem::take(&mut run.glances);
    let all = right + misses.len();
    if all == 0 {
        return;
    }
    #[allow(clippy::cast_precision_loss, reason = "a few faults")]
    let enough = right as f64 >= RIGHT * all as f64;
    let verdict = Verdict::new("status names the cause of at least 95 % of the faults first", enough);
    run.judge(verdict.figure("right", right).figure("of", all).figure("misses", misses.join("; ")));
}

#[cfg(test)]
mod tests {
    use super::{super::FAULTS, *};

    #[test]
    fn every_fault_has_a_cause_that_is_checked_once() {
        for fault in FAULTS {
            let stages = CAUSES.iter().filter(|(name, ..)| *name == fault.name);
            let stages: Vec<_> = stages.map(|(_, stage, _)| *stage).collect();
            let [stage] = stages[..] else { panic!("{}: {stages:?}", fault.name) };
            assert!(fault.stages.iter().any(|one| one.name == stage), "{}: {stage}", fault.name);
        }
        assert_eq!(CAUSES.len(), FAULTS.len());
    }
}
