// SPDX-License-Identifier: Apache-2.0
//! Stops the proxy, under traffic and without, and counts the leftovers.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{
    Run,
    bring_up::{milliseconds, ready, registered},
    eventually,
    leaks::{self, Talkers},
    leftovers::{self, Baseline},
    verdict::{Report, Verdict},
};
use crate::{
    control_plane::forwarder::Forwarder,
    error::{Doing, LabError},
    world::mishaps::END,
};

/// How long the proxy is away.
const AWAY: Duration = Duration::from_millis(500);
/// How long connections to load balancers that left may stay.
const LEAVE: Duration = Duration::from_secs(15);
/// Maximum resident memory of the proxy, with its admin listener and metrics.
const MEMORY: u64 = 14 * 1024 * 1024;

/// Checks the proxy's resident memory. That of a debug build is larger, and only shown.
pub(super) fn judge_memory(run: &mut Run) -> Result<(), LabError> {
    let proxy = run.world.first_proxy()?;
    let resident = proxy.resident().doing(|| "measure the proxy".into())?;
    let verdict = Verdict::new("the proxy stays small", resident <= MEMORY || cfg!(debug_assertions));
    run.judge(verdict.figure("resident KiB", resident / 1024).figure("allowed KiB", MEMORY / 1024));
    Ok(())
}

/// Terminates the proxy while every target sends; it must end by itself.
async fn terminate(run: &mut Run) -> Result<Verdict, LabError> {
    let start = Instant::now();
    let mut verdict = Verdict::new("the proxy ends when asked", true);
    for proxy in &mut run.world.proxies {
        let process = proxy.ending()?;
        let log = process.tail(super::LOG);
        let status = process.terminate(END).await.doing(|| "wait for the proxy".into())?;
        if !status.is_some_and(|status| status.success()) {
            verdict.ok = false;
            eprintln!("\nThe proxy's last words:\n{log}\n");
        }
        verdict = verdict.figure("status", status.map_or("killed".into(), |status| status.to_string()));
    }
    Ok(verdict.figure("ms", milliseconds(start.elapsed())))
}

/// Terminates the proxy under traffic, and starts a successor in the same pod.
pub(super) async fn restart_under_traffic(run: &mut Run) -> Result<(), LabError> {
    let talkers = Talkers::start(&run.world, &run.world.topology.vips())?;
    let ended = terminate(run).await?;
    tokio::time::sleep(AWAY).await;
    run.judge(ended);
    run.world.start_proxies()?;
    let start = Instant::now();
    registered(run).await?;
    ready(run).await?;
    let took = milliseconds(start.elapsed());
    run.judge(Verdict::new("a successor is ready", true).figure("ms", took));
    let verdict = talkers.judge(&run.world, "nothing leaks while the proxy stops and starts");
    run.judge(verdict);
    Ok(())
}

/// Makes every load balancer leave while the targets send: no next hop is left.
async fn lose_every_lb(run: &mut Run) -> Result<(), LabError> {
    let talkers = Talkers::start(&run.world, &run.world.topology.vips())?;
    run.world.superseded = run.world.forwarder.as_ref().map_or(0, Forwarder::superseded);
    let mut left = Vec::new();
    let mut superseded = 0;
    for lb in std::mem::take(&mut run.world.lbs).into_values() {
        superseded += lb.superseded();
        left.push(lb.withdraw().await);
    }
    let took = eventually("load balancers that left have no connection", LEAVE, async || {
        match left.iter().map(|lb| lb.connections().len()).sum::<usize>().checked_sub(superseded) {
            None | Some(0) => Ok(()),
            Some(some) => Err(format!("{some} connections")),
        }
    })
    .await;
    for lb in left {
        lb.stop().await;
    }
    let verdict = Verdict::new("the proxy closes its links to load balancers that left", took.is_ok());
    run.judge(verdict.figure("ms", took.as_ref().map_or(0, |took| milliseconds(*took))));
    tokio::time::sleep(AWAY).await;
    let verdict = talkers.judge(&run.world, "nothing leaks when every load balancer has left");
    run.judge(verdict);
    Ok(())
}

/// Makes the load balancers leave, closes every target, then terminates the proxy. Also shows that
/// the counter still counts.
pub(super) async fn close_everything(run: &mut Run) -> Result<(), LabError> {
    lose_every_lb(run).await?;
    for target in &mut run.world.targets {
        target.close().await?;
    }
    let ended = terminate(run).await?;
    run.judge(ended);
    let endpoints = run.world.control.endpoints().await?;
    let gone = run.world.proxies.iter().all(|proxy| !endpoints.contains(&proxy.name()));
    run.judge(Verdict::new("the proxy unregisters its endpoint", gone).figure("left", endpoints.join(" ")));
    leaks::show_that_the_counter_counts(run).await
}

/// Stops the rest, and counts.
pub(super) async fn leave(run: Run, baseline: Baseline) -> Result<Report, LabError> {
    let Run { mut world, mut report, started, .. } = run;
    for process in world.proxies.iter_mut().filter_map(|proxy| proxy.process.take()) {
        let _ = process.signal(Signal::SIGKILL);
        process.terminate(END).await.doing(|| "end the proxy".into())?;
    }
    let verdict = leftovers::judge(world.stop().await?, baseline).await?;
    eprintln!("{:>6.2} s  {verdict}", started.elapsed().as_secs_f64());
    report.add(verdict);
    Ok(report)
}
