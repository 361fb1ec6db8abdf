// SPDX-License-Identifier: Apache-2.0
//! Refreshes of standing connections, also with new identities.

use super::{Run, verdict::Verdict};
use crate::error::LabError;

/// Number of refreshes of each target.
const REFRESHES: usize = 10;

async fn refresh_all(run: &mut Run, times: usize) -> Result<(), LabError> {
    for target in &mut run.world.targets {
        for _ in 0..times {
            target.connect().await?;
        }
    }
    Ok(())
}

/// Refreshes every target, and checks that IPAM is not called.
pub(super) async fn costs_no_ipam_call(run: &mut Run) -> Result<(), LabError> {
    let before = run.world.ipam.faults().calls();
    refresh_all(run, REFRESHES).await?;
    let after = run.world.ipam.faults().calls();
    let calls = (after.allocate - before.allocate) + (after.release - before.release);
    let refreshes = REFRESHES * run.world.targets.len();
    let verdict = Verdict::new("a refresh makes no IPAM call", calls == 0);
    run.judge(verdict.figure("refreshes", refreshes).figure("calls", calls));
    Ok(())
}

/// Gives every pod a new SVID, and checks that connections can still be refreshed.
pub(super) async fn survives_a_rotation(run: &mut Run) -> Result<(), LabError> {
    let pods: Vec<String> = run.world.agent.pods().map(str::to_owned).collect();
    for pod in &pods {
        run.world.agent.rotate(pod);
    }
    let refreshed = refresh_all(run, 2).await;
    let verdict = Verdict::new("connections outlive a rotation of every SVID", refreshed.is_ok());
    run.judge(verdict.figure("rotated", pods.len()));
    refreshed
}
