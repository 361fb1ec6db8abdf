// SPDX-License-Identifier: Apache-2.0
//! Checks during faults that no address is held twice, and that no dead load balancer stays a next
//! hop for longer than its bound.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    error::LabError,
    pods::pod::Pod,
    run::faults::Act,
    world::{World, balance::FROM_PROXY, target::LINK},
};

/// How long a dead load balancer may stay a next hop: its bound of a second, and the time for a
/// check.
const STALE: Duration = Duration::from_millis(1_500);
/// Time from the start of a proxy until that must hold.
const START: Duration = Duration::from_secs(3);

/// The violations found, and the state needed to find them.
#[derive(Default)]
pub(super) struct Invariants {
    /// Dead load balancers: since when, and their addresses.
    dead: BTreeMap<usize, (Option<Instant>, Vec<IpAddr>)>,
    /// When the proxy was started; `None` while it does not run.
    running: Option<Instant>,
    broken: BTreeSet<String>,
}

impl Invariants {
    pub(super) fn new() -> Self {
        Self { running: Some(Instant::now()), ..Self::default() }
    }

    /// Records an act before it is performed.
    pub(super) async fn before(&mut self, world: &World, act: Act) -> Result<(), LabError> {
        match act {
            Act::LoseLb(lb, _) => {
                let Some(pod) = world.fabric.lbs.get(lb) else { return Ok(()) };
                self.dead.insert(lb, (None, addresses(pod, FROM_PROXY).await?));
            }
            Act::ReturnLb(lb) => drop(self.dead.remove(&lb)),
            Act::KillProxy | Act::EndProxy(_) => self.running = None,
            _ => {}
        }
        Ok(())
    }

    /// Records an act after it was performed.
    pub(super) fn after(&mut self, act: Act) {
        match act {
            Act::LoseLb(lb, _) => {
                if let Some((since, _)) = self.dead.get_mut(&lb) {
                    *since = Some(Instant::now());
                }
            }
            Act::StartProxy => self.running = Some(Instant::now()),
            _ => {}
        }
    }

    /// Checks once.
    pub(super) async fn check(&mut self, world: &World) -> Result<(), LabError> {
        self.check_addresses(world).await?;
        self.check_next_hops(world).await
    }

    /// All violations found.
    pub(super) fn broken(&self) -> String {
        self.broken.iter().cloned().collect::<Vec<_>>().join("; ")
    }

    async fn check_addresses(&mut self, world: &World) -> Result<(), LabError> {
        let vips = world.topology.vips();
        let mut holders: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for (number, pod) in world.fabric.targets.iter().chain(&world.fabric.lbs).enumerate() {
            // A load balancer that does not run keeps its links until they are closed.
            let lb = number.checked_sub(world.fabric.targets.len());
            if lb.is_some_and(|lb| !world.lbs.contains_key(&lb)) {
                continue;
            }
            let alias = if lb.is_some() { FROM_PROXY } else { "server-" };
            for address in addresses(pod, alias).await?.into_iter().filter(|a| !vips.contains(a)) {
                if let Some(other) = holders.insert(address, &pod.name)
                    && other != pod.name
                {
                    self.broken.insert(format!("{address} is held by {other} and {}", pod.name));
                }
            }
        }
        Ok(())
    }

    async fn check_next_hops(&mut self, world: &World) -> Result<(), LabError> {
        let settled = self.running.is_some_and(|since| since.elapsed() > START);
        if !settled || self.dead.is_empty() {
            return Ok(());
        }
        let hops = world.datapath(0).await?.next_hops;
        for (lb, (since, addresses)) in &self.dead {
            let late = since.is_some_and(|since| since.elapsed() > STALE);
            for address in addresses.iter().filter(|address| late && hops.contains(address)) {
                // If there are no others, the last next hops stay.
                let others = hops.iter().filter(|hop| hop.is_ipv4() == address.is_ipv4());
                let others = others.filter(|hop| !self.dead.values().any(|(_, dead)| dead.contains(hop)));
                if others.count() > 0 {
                    self.broken.insert(format!("lb{} is dead and a next hop: {address}", lb + 1));
                }
            }
        }
        Ok(())
    }
}

/// Addresses of the links of a pod whose alias has this prefix.
async fn addresses(pod: &Pod, alias: &str) -> Result<Vec<IpAddr>, LabError> {
    let mut all = Vec::new();
    for link in pod.netlink.links().await? {
        if link.alias.starts_with(alias) || (alias != FROM_PROXY && link.name == LINK) {
            all.extend(pod.netlink.addresses(link.index).await?.iter().map(|net| net.addr()));
        }
    }
    Ok(all)
}
