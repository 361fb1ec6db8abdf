// SPDX-License-Identifier: Apache-2.0
//! Starts the proxy and its peers, in the order in which a leak would be likeliest.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Run, eventually, leaks, verdict::Verdict};
use crate::{
    error::{Doing, LabError},
    pods::{pod::Process, privileges},
    traffic::echo::Echo,
    world::{components::Component, lb},
};
use nsm::chain::causes;
use nsm::{
    proxy::health::{READINESS, probe},
    registry::ServiceOwner,
};

/// Timeout of the proxy's registration.
const REGISTER: Duration = Duration::from_secs(15);
/// Timeout from the first load balancer to ready.
const READY: Duration = Duration::from_secs(15);
/// The set of NET_ADMIN and NET_RAW, in the kernel's notation.
const NETWORK: &str = "0000000000003000";
/// Timeout of one probe.
const PROBE: Duration = Duration::from_secs(1);

/// Starts the proxy before there is an NSP, and waits until its endpoint is registered.
pub(super) async fn start_proxy(run: &mut Run) -> Result<(), LabError> {
    let start = Instant::now();
    run.world.start_proxies()?;
    registered(run).await?;
    let verdict = Verdict::new("the proxy registers its endpoint", true);
    run.judge(verdict.figure("ms after the start", milliseconds(start.elapsed())));
    judge_privileges(run)
}

/// Checks the proxy's user and capabilities.
fn judge_privileges(run: &mut Run) -> Result<(), LabError> {
    if !privileges::has_user(privileges::PROXY_USER) {
        run.report.leave_out(
            "the user that the proxy runs as: where an ordinary user runs the lab, there is one only",
        );
        return Ok(());
    }
    let proxy = run.world.first_proxy()?;
    let of = |name| proxy.status(name).doing(|| format!("read {name} of the proxy"));
    let users = of("Uid")?;
    let able = of("CapEff")?;
    let bound = of("CapBnd")?;
    let filter = of("Seccomp")?;
    let alone = users.split_whitespace().all(|user| user == privileges::PROXY_USER.to_string());
    let verdict = Verdict::new(
        "the proxy is an ordinary user with NET_ADMIN and NET_RAW alone",
        alone && able == NETWORK && bound == NETWORK,
    );
    run.judge(
        verdict
            .figure("users", users.replace('\t', " "))
            .figure("capabilities", able)
            .figure("at most", bound),
    );
    let verdict = Verdict::new("the proxy is confined to the seccomp profile of deploy/", filter == "2");
    run.judge(verdict.figure("mode", filter));
    Ok(())
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until the endpoint of every proxy is registered.
pub(super) async fn registered(run: &mut Run) -> Result<Duration, LabError> {
    let world = &mut run.world;
    eventually("the proxy is registered", REGISTER, async || {
        let endpoints = world.control.endpoints().await.map_err(|error| causes(&error))?;
        for proxy in &mut world.proxies {
            let name = proxy.name();
            if !proxy.process.as_mut().is_some_and(Process::is_running) {
                return Err(format!("{name} has ended"));
            }
            if !endpoints.contains(&name) {
                return Err(format!("{name} is not"));
            }
        }
        Ok(())
    })
    .await
}

/// Connects every target with every VIP, and answers on them.
pub(super) async fn connect_targets(run: &mut Run) -> Result<(), LabError> {
    let vips = run.world.topology.vips();
    let spare = run.world.topology.spare_vips();
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

/// Brings all components up, in an order that a cluster might have.
pub(super) async fn everything(run: &mut Run) -> Result<(), LabError> {
    publish_vips(run);
    run.world.start(Component::Nsp)?;
    start_proxy(run).await?;
    connect_targets(run).await?;
    start_lbs(run).await
}

/// Publishes the VIPs in NSP.
pub(super) fn publish_vips(run: &mut Run) {
    let vips = run.world.topology.vips();
    set_vips(run, &vips);
}

/// Publishes these VIPs in NSP.
pub(super) fn set_vips(run: &Run, vips: &[IpAddr]) {
    let named = vips
        .iter()
        .zip(1..)
        .map(|(vip, number)| (format!("vip-{number}"), ipnet::IpNet::from(*vip).to_string()));
    run.world.nsp.set_vips(named.collect::<Vec<_>>());
}

/// Starts every load balancer while the targets send, and waits until the proxy is ready.
pub(super) async fn start_lbs(run: &mut Run) -> Result<(), LabError> {
    let talkers = leaks::Talkers::start(&run.world, &run.world.topology.vips())?;
    let start = Instant::now();
    for number in 0..run.world.topology.lbs {
        run.world.start_lb(number).await?;
    }
    let standing = run.world.control.register_again(&lb::service()).await?;
    ready(run).await?;
    let took = milliseconds(start.elapsed());
    let resident = run.world.first_proxy()?.resident().unwrap_or_default();
    let verdict = Verdict::new("the proxy is ready with every load balancer", true).figure("ms", took);
    run.judge(verdict.figure("resident KiB", resident / 1024));
    // One SPIFFE id per pod and NSM's policies: only the first load balancer may replace the
    // network service.
    let verdict =
        Verdict::new("a network service of another pod is taken as it is", standing == ServiceOwner::Theirs);
    run.judge(verdict.figure("standing", format!("{standing:?}")));
    let verdict = talkers.judge(&run.world, "nothing leaks while load balancers come");
    run.judge(verdict);
    Ok(())
}

/// Waits until every proxy reports that it is ready, and every load balancer has a connection from
/// each.
pub(super) async fn ready(run: &mut Run) -> Result<Duration, LabError> {
    let world = &run.world;
    eventually("the proxy is ready", READY, async || {
        for proxy in &world.proxies {
            let ready = probe(&proxy.health_socket(), READINESS, PROBE).await;
            ready.map_err(|error| format!("{}: {}", proxy.name(), causes(&error)))?;
        }
        match world.lbs.values().find(|lb| lb.connections().len() < world.proxies.len()) {
            Some(lb) => Err(format!("{} has {} connections", lb.name, lb.connections().len())),
            None => Ok(()),
        }
    })
    .await
}
