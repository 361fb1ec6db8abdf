// SPDX-License-Identifier: Apache-2.0
//! Adds and removes VIPs under traffic, and lets NSP forget them all.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{
    Run,
    bring_up::set_vips,
    eventually,
    leaks::Talkers,
    reach::{ask_vip, settled},
    traffic::{self, Direction, Traffic},
    verdict::Verdict,
};
use crate::{error::LabError, traffic::flows::Transport};

/// How long an empty list is watched.
const EMPTY: Duration = Duration::from_secs(1);
/// How long a removed VIP may still answer.
const REMOVAL: Duration = Duration::from_secs(5);

fn start(run: &Run) -> Result<(Traffic, Instant), LabError> {
    Ok((Traffic::start(&run.world, &run.world.topology.vips())?, Instant::now()))
}

/// Judges that traffic has lost nothing since it started.
async fn judge(run: &mut Run, name: &str, (traffic, since): (Traffic, Instant)) {
    let losses = traffic.finish(since).await;
    let good = losses.iter().all(|loss| loss.sent > 0 && loss.lost == 0);
    let verdict = Verdict::new(name, good);
    let figures = Direction::BOTH.into_iter().zip(losses);
    run.judge(
        figures.fold(verdict, |verdict, (direction, loss)| {
            verdict.figure(direction.name(), traffic::figure(loss))
        }),
    );
}

async fn carry(run: &mut Run, vips: &[IpAddr]) -> Result<(), LabError> {
    for target in &mut run.world.targets {
        target.set_vips(vips).await?;
    }
    Ok(())
}

/// Adds a VIP of each family and removes it again, while the others are in use. While it is
/// removed, targets still send from it.
pub(super) async fn come_and_go_under_traffic(run: &mut Run) -> Result<(), LabError> {
    let vips = run.world.topology.vips();
    let spare = run.world.topology.spare_vips();
    let more: Vec<IpAddr> = vips.iter().chain(&spare).copied().collect();

    let traffic = start(run)?;
    set_vips(run, &more);
    carry(run, &more).await?;
    let mut answered = 0;
    for vip in &spare {
        settled(run, *vip).await?;
        answered += ask_vip(run, *vip, Transport::Tcp, 8).await.answered;
    }
    let added = Verdict::new("an added VIP answers", answered == 8 * spare.len());
    run.judge(added.figure("answered", answered));
    judge(run, "adding a VIP loses nothing of the others", traffic).await;

    let traffic = start(run)?;
    let talkers = Talkers::start(&run.world, &spare)?;
    set_vips(run, &vips);
    for vip in &spare {
        let gone = eventually("a removed VIP does not answer", REMOVAL, async || {
            match ask_vip(run, *vip, Transport::Udp, 2).await.answered {
                0 => Ok(()),
                some => Err(format!("{some} answers from {vip}")),
            }
        });
        gone.await?;
    }
    let verdict = talkers.judge(&run.world, "packets of a removed VIP are dropped, not leaked");
    run.judge(verdict);
    carry(run, &vips).await?;
    judge(run, "removing a VIP loses nothing of the others", traffic).await;
    Ok(())
}

/// Lets NSP answer with an empty list, as after its restart, while everything is in use.
pub(super) async fn an_empty_list_is_held(run: &mut Run) -> Result<(), LabError> {
    let traffic = start(run)?;
    let talkers = Talkers::start(&run.world, &run.world.topology.vips())?;
    set_vips(run, &[]);
    tokio::time::sleep(EMPTY).await;
    let vips = run.world.topology.vips();
    set_vips(run, &vips);
    tokio::time::sleep(EMPTY / 2).await;
    let verdict = talkers.judge(&run.world, "nothing leaks when NSP forgets every VIP");
    run.judge(verdict);
    judge(run, "an empty list that is corrected loses nothing", traffic).await;
    Ok(())
}
