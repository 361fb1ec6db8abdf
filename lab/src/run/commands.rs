// SPDX-License-Identifier: Apache-2.0
//! Asks the running proxy by its own commands.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Run, bring_up::milliseconds, verdict::Verdict};
use crate::error::{Doing, LabError};

/// Reads a proxy that carries traffic by `status`, `plan` and `explain`.
pub(super) async fn see_a_proxy_that_is_well(run: &mut Run) -> Result<(), LabError> {
    let mut slowest = Duration::ZERO;
    let mut state = String::new();
    let mut failed = Vec::new();
    let vips = run.world.topology.vips().into_iter().map(|vip| format!("explain {vip} --json"));
    for command in ["status --json".to_owned(), "plan --json".to_owned()].into_iter().chain(vips) {
        let start = Instant::now();
        let Some(output) = run.world.ask_proxy(&command).await? else {
            run.report.leave_out("the commands of the proxy: another program is in its place");
            return Ok(());
        };
        slowest = slowest.max(start.elapsed());
        let answer: Value = serde_json::from_slice(&output.stdout).doing(|| format!("read {command}"))?;
        if let Some(text) = answer["state"].as_str() {
            text.clone_into(&mut state);
        }
        if !output.status.success() {
            failed.push(format!("{command}: {answer}"));
        }
    }
    let verdict = Verdict::new("the commands see that the proxy is well", failed.is_empty());
    run.judge(
        verdict
            .figure("state", state)
            .figure("ms of the slowest", milliseconds(slowest))
            .figure("against it", failed.join("; ")),
    );
    Ok(())
}
