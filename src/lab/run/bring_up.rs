// SPDX-License-Identifier: Apache-2.0
//! Start the proxy and those it serves, in the order in which a leak would be likeliest.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Run, eventually, leaks};
use crate::{
    lab::{
        echo::Echo,
        error::{Doing, LabError, explain},
        topology::PROXY,
        verdict::Verdict,
    },
    proxy::health::{READINESS, probe},
};

/// How long the proxy may take to register.
const REGISTER: Duration = Duration::from_secs(15);
/// How long it may take from the first load balancer to ready.
const READY: Duration = Duration::from_secs(15);
/// Time for one probe.
const PROBE: Duration = Duration::from_secs(1);

/// Start the proxy before there is an NSP, and wait until its endpoint is registered.
pub(super) async fn start_proxy(run: &mut Run) -> Result<(), LabError> {
    let start = Instant::now();
    run.world.start_proxy()?;
    registered(run).await?;
    let verdict = Verdict::new("the proxy registers its endpoint", true);
    run.judge(verdict.figure("ms after the start", milliseconds(start.elapsed())));
    Ok(())
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Wait until the proxy's endpoint is registered.
pub(super) async fn registered(run: &mut Run) -> Result<Duration, LabError> {
    let world = &mut run.world;
    eventually("the proxy is registered", REGISTER, async || {
        if !world.proxy.as_mut().is_some_and(|proxy| proxy.is_running()) {
            return Err("it has ended".into());
        }
        world.nsmgr.endpoints.get(PROXY).map(drop).ok_or_else(|| "it is not".into())
    })
    .await
}

/// Connect every target, let it carry every VIP, and answer on them.
pub(super) async fn connect_targets(run: &mut Run) -> Result<(), LabError> {
    let (vips, spare) = (run.world.topology.vips(), run.world.topology.spare_vips());
    for number in 0..run.world.topology.targets {
        run.world.add_target(number)?;
        let target = &mut run.world.targets[number];
        target.connect().await?;
        target.set_vips(&vips).await?;
        let pod = &run.world.fabric.targets[number];
        let every: Vec<IpAddr> = vips.iter().chain(&spare).copied().collect();
        let echo = Echo::start(&pod.netns, &pod.name, &every);
        run.world.echoes.push(echo.doing(|| format!("answer in {}", pod.name))?);
    }
    let families = run.world.topology.families.len();
    let targets = &run.world.targets;
    let complete = targets.iter().all(|t| t.addresses().len() == families && t.gateways().len() == families);
    let addresses: Vec<String> =
        targets.iter().flat_map(|target| target.addresses()).map(|net| net.to_string()).collect();
    let verdict = Verdict::new("every target has an address and a gateway of each family", complete);
    run.judge(verdict.figure("targets", targets_len(run)).figure("addresses", addresses.join(" ")));
    Ok(())
}

fn targets_len(run: &Run) -> usize {
    run.world.targets.len()
}

/// Let NSP list the VIPs.
pub(super) fn publish_vips(run: &mut Run) {
    let vips = run.world.topology.vips();
    set_vips(run, &vips);
}

/// Let NSP list these VIPs.
pub(super) fn set_vips(run: &Run, vips: &[IpAddr]) {
    let named = vips
        .iter()
        .zip(1..)
        .map(|(vip, number)| (format!("vip-{number}"), ipnet::IpNet::from(*vip).to_string()));
    run.world.nsp.set_vips(named.collect::<Vec<_>>());
}

/// Start every load balancer while the targets send, and wait until the proxy is ready.
pub(super) async fn start_lbs(run: &mut Run) -> Result<(), LabError> {
    let talkers = leaks::Talkers::start(run, &run.world.topology.vips())?;
    let start = Instant::now();
    for number in 0..run.world.topology.lbs {
        run.world.start_lb(number).await?;
    }
    run.world.balance();
    ready(run).await?;
    let took = milliseconds(start.elapsed());
    let resident = run.world.proxy.as_ref().and_then(|proxy| proxy.resident().ok()).unwrap_or_default();
    let verdict = Verdict::new("the proxy is ready with every load balancer", true).figure("ms", took);
    run.judge(verdict.figure("resident KiB", resident / 1024));
    let verdict = talkers.judge(run, "nothing leaks while load balancers come");
    run.judge(verdict);
    Ok(())
}

/// Wait until the proxy says that it is ready, and every load balancer has a connection.
pub(super) async fn ready(run: &mut Run) -> Result<Duration, LabError> {
    let socket = run.world.health_socket();
    let world = &run.world;
    eventually("the proxy is ready", READY, async || {
        probe(&socket, READINESS, PROBE).await.map_err(|error| explain(&error))?;
        match world.lbs.iter().find(|lb| lb.connections.is_empty()) {
            Some(lb) => Err(format!("{} has no connection", lb.name)),
            None => Ok(()),
        }
    })
    .await
}
