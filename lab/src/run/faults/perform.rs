// SPDX-License-Identifier: Apache-2.0
//! Performs a fault under traffic.

use std::{ops::Range, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{Fault, judge::judge, status};
use crate::{
    error::LabError,
    run::{
        Run, bring_up, eventually,
        traffic::{Direction, Traffic, UNDER_WAY},
        verdict::Verdict,
    },
    world::{World, datapath::Datapath},
};
use nsm::chain::causes;

/// How long traffic is watched before the fault: it must lose nothing.
const BEFORE: Duration = Duration::from_millis(300);
/// How long traffic must lose nothing until it counts as whole again.
pub(in crate::run) const QUIET: Duration = Duration::from_secs(1);
/// Timeout until it is whole again.
pub(in crate::run) const RECOVERY: Duration = Duration::from_secs(60);

/// The observations during a fault.
pub(super) struct Observations {
    /// From the start of the traffic to the first act.
    pub(super) before: Range<Instant>,
    /// From the acts of each stage to those of the next one.
    pub(super) stages: Vec<Range<Instant>>,
    /// Time until the kernel was as before, if it was in time.
    pub(super) restored: Option<Duration>,
    /// The cause that `proxy status` shows, beside the one expected.
    pub(super) status: Option<String>,
}

/// Performs a fault and judges it. A fault that could not be performed is a failed verdict, too.
///
/// # Errors
/// Traffic cannot be started.
pub(in crate::run) async fn perform(run: &mut Run, fault: &Fault) -> Result<(), LabError> {
    let traffic = Traffic::start(&run.world, &run.world.topology.vips())?;
    let verdict = match go_through(run, fault, &traffic).await {
        Ok(observations) => judge(run, fault, &traffic, &observations),
        Err(error) => Verdict::new(fault.promise, false).figure("stopped by", causes(&error)),
    };
    traffic.end().await;
    run.judge(verdict.figure("fault", fault.name));
    if let Err(error) = bring_up::ready(run).await {
        let verdict = Verdict::new("the proxy is ready after a fault", false);
        run.judge(verdict.figure("fault", fault.name).figure("stopped by", causes(&error)));
    }
    status::is_well_again(run, fault).await;
    Ok(())
}

async fn go_through(run: &mut Run, fault: &Fault, traffic: &Traffic) -> Result<Observations, LabError> {
    let start = Instant::now();
    sleep(BEFORE + UNDER_WAY).await;
    let datapath = run.world.datapath(0).await?;
    let mut begins = Vec::new();
    let mut restored = None;
    let mut status = None;
    for stage in fault.stages {
        let mut begin = None;
        for act in stage.acts {
            let effect = act.perform(&mut run.world).await?;
            begin.get_or_insert(effect);
        }
        let begin = begin.unwrap_or_else(Instant::now);
        begins.push(begin);
        if let Some(within) = fault.restored {
            restored = as_before(&run.world, &datapath, begin, within).await;
        }
        sleep_until(begin + stage.lasts).await;
        status = status::glance(run, fault, stage).await?.or(status);
    }
    let _never = whole(&run.world, traffic, begins.last().copied().unwrap_or(start)).await;
    let ends = begins.iter().skip(1).copied().chain([Instant::now() - UNDER_WAY]);
    let before = start..begins.first().copied().unwrap_or(start);
    let stages = begins.iter().zip(ends).map(|(begin, end)| *begin..end).collect();
    Ok(Observations { before, stages, restored, status })
}

/// Waits until every connection exists and traffic is whole, or for long: a fault that does not
/// recover has a verdict of its own.
pub(in crate::run) async fn whole(world: &World, traffic: &Traffic, from: Instant) -> Result<(), LabError> {
    let mut connected = None;
    let whole = eventually("traffic is whole", RECOVERY, async || {
        world.has_all_connections()?;
        let connected = *connected.get_or_insert_with(Instant::now);
        let since = from.max(connected).max(Instant::now() - QUIET - UNDER_WAY);
        if since + QUIET > Instant::now() - UNDER_WAY {
            return Err("not yet for long".into());
        }
        match Direction::BOTH.into_iter().find(|direction| !traffic.is_whole(*direction, since)) {
            None => Ok(()),
            Some(direction) => {
                let details = traffic.details(direction, &(since..Instant::now()));
                Err(format!("{}: {details}", direction.name()))
            }
        }
    });
    whole.await.map(drop)
}

/// Time from a moment until the kernel of the first proxy is as before.
async fn as_before(world: &World, before: &Datapath, since: Instant, within: Duration) -> Option<Duration> {
    let restored = eventually("the kernel is as before", within, async || {
        let now = world.datapath(0).await.map_err(|error| causes(&error))?;
        if now == *before { Ok(()) } else { Err(format!("{now:?}")) }
    });
    restored.await.is_ok().then(|| since.elapsed())
}
