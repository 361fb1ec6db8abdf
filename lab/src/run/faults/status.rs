// SPDX-License-Identifier: Apache-2.0
//! Judges the cause that `proxy status` names first while a fault lasts.

use serde_json::Value;

use super::{Fault, Stage};
use crate::{
    error::{Doing, LabError},
    run::{Run, verdict::Verdict},
};

/// Faults and stages at whose end the proxy runs, with a part of the first problem; empty if the
/// proxy is well without the lost part.
///
/// A loss of nsmgr is shown from the refresh that fails to the one that succeeds, so neither it nor
/// the fault after it is judged.
const CAUSES: &[(&str, &str, &str)] = &[
    ("lb-leaves", "gone", ""),
    ("lb-silent", "gone", "load balancer lb1"),
    ("lb-hangs", "gone", "load balancer lb2"),
    ("lb-unlinked", "gone", "load balancer lb2"),
    ("every-lb-gone", "gone", "lists no load balancer"),
    ("restart-without-spire", "waiting", "SPIFFE Workload API"),
    ("restart-without-ipam", "without them", "IPAM"),
    ("ipam-away", "gone", "IPAM"),
    ("nsp-away", "gone", "NSP"),
    ("workload-api-away", "gone", "Workload API"),
];

/// Asks the proxy at the end of a stage.
pub(super) async fn judge(run: &mut Run, fault: &Fault, stage: &Stage) -> Result<(), LabError> {
    let named = CAUSES.iter().find(|(name, at, _)| (*name, *at) == (fault.name, stage.name));
    let Some((_, _, cause)) = named else { return Ok(()) };
    let Some(output) = run.world.ask_proxy("status --json").await? else { return Ok(()) };
    let answer: Value = serde_json::from_slice(&output.stdout).doing(|| "read proxy status".into())?;
    let first = answer["problems"][0]["problem"].as_str().unwrap_or_default();
    let right = if cause.is_empty() { first.is_empty() } else { first.contains(cause) };
    let verdict = Verdict::new("status names the cause of a fault first", right);
    run.judge(verdict.figure("fault", fault.name).figure("first", first));
    Ok(())
}
