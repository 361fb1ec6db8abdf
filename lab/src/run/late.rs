// SPDX-License-Identifier: Apache-2.0
//! Targets that join while IPAM answers late.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Run, bring_up::milliseconds, verdict::Verdict};
use crate::{error::LabError, world::target::Target};
use nsm::ipam::Fault;

/// Delay of IPAM.
const LATE: Duration = Duration::from_secs(2);
/// Minimum duration of two rounds of calls.
const TWO_ROUNDS: Duration = Duration::from_secs(4);
/// Number of targets that join at once.
const AT_ONCE: usize = 5;

async fn timed(target: &mut Target) -> Result<Duration, LabError> {
    let start = Instant::now();
    target.connect().await?;
    Ok(start.elapsed())
}

/// One target joins, then five at once; meanwhile a standing connection is updated.
pub(super) async fn targets_join_while_ipam_is_late(run: &mut Run) -> Result<(), LabError> {
    let mut pods = Vec::new();
    let mut guests = Vec::new();
    for number in 0..=AT_ONCE {
        let pod = run.world.guest(&format!("guest{number}")).await?;
        guests.push(run.world.guest_target(&pod)?);
        pods.push(pod);
    }
    run.world.ipam.faults().stand(Fault::Delay(LATE));
    let vips = run.world.topology.vips();
    let standing = run.world.targets.first_mut();

    let (first, others) = guests.split_at_mut(1);
    let alone = timed(&mut first[0]).await?;
    let update = async {
        let start = Instant::now();
        if let Some(target) = standing {
            target.set_vips(&vips).await?;
        }
        Ok::<_, LabError>(start.elapsed())
    };
    let (joined, update) = tokio::join!(join_all(others.iter_mut().map(timed)), update);
    run.world.ipam.faults().clear();
    let joined = joined.into_iter().collect::<Result<Vec<_>, _>>()?;
    let slowest = joined.into_iter().max().unwrap_or_default();
    let update = update?;

    let verdict =
        Verdict::new("a target joins in one round of a late IPAM", alone >= LATE && alone < TWO_ROUNDS);
    run.judge(verdict.figure("ms", milliseconds(alone)));
    let verdict = Verdict::new("five targets at once join no slower", slowest < TWO_ROUNDS);
    run.judge(verdict.figure("ms", milliseconds(slowest)));
    let verdict = Verdict::new("a late IPAM does not delay a standing connection", update < LATE / 2);
    run.judge(verdict.figure("ms", milliseconds(update)));
    for guest in guests {
        guest.stop().await;
    }
    drop(pods);
    Ok(())
}
