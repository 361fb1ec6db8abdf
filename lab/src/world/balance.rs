// SPDX-License-Identifier: Apache-2.0
//! The data path of a load balancer: spreads packets to a VIP over the targets, and sends packets
//! from a VIP to the client.
//!
//! Stateless, by the kernel's hash of a flow, where Meridio's load balancers use Maglev. As there,
//! a removed link affects no other target: Linux removes a whole IPv4 route with the device of one
//! of its next hops, so behind the route over all links there is one over each. The links to the
//! targets are looked up in the kernel: a target is behind the link that NSM made in its subnet.
//! Until there is one, its share goes to the others.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::sync::watch;

use super::{answered::Answered, fabric::LB_TO_CLIENT};
use crate::{
    error::LabError,
    network::{
        netlink::{Netlink, NetlinkError},
        routes::{LOCAL, Via},
        rules::Rule,
    },
    topology::everything,
};
use nsm::api::Family;

/// Table of the routes to the targets.
const TO_TARGETS: u32 = 200;
/// Table of the route to the client, with the number of Meridio's load balancers.
const TO_CLIENT: u32 = 4096;
/// Lowest metric of the routes over single links. IPv6 routes have 1024 by default.
const BEHIND: u32 = 2000;
/// Priority of the rules that silence a load balancer.
const SILENT: u32 = 1;
/// Prefix of the alias of a link to a proxy.
pub const FROM_PROXY: &str = "client-";
/// How often the links are read.
const PACE: Duration = Duration::from_millis(50);

/// Targets, as they are answered. Meridio's load balancers receive their addresses from NSP.
#[derive(Clone, Debug, Default)]
pub struct Targets(pub Vec<watch::Receiver<Answered>>);

impl Targets {
    /// Their addresses, now.
    fn addresses(&self) -> Vec<IpAddr> {
        self.0.iter().flat_map(|target| target.borrow().addresses()).map(|net| net.addr()).collect()
    }
}

/// The VIPs and targets of a load balancer.
struct Wanted {
    vips: Vec<IpAddr>,
    /// Addresses of the targets.
    targets: Vec<IpAddr>,
}

impl Wanted {
    /// Whether there are targets, and every VIP has a route to each of its family.
    fn is_met_by(&self, ways: &[(IpAddr, Vec<Via>)]) -> bool {
        let met = ways.iter().all(|(vip, ways)| {
            let targets = self.targets.iter().filter(|target| target.is_ipv4() == vip.is_ipv4());
            ways.len() == targets.count()
        });
        met && !self.targets.is_empty()
    }
}

/// Installs the rules of a load balancer: from the client to the targets, from the VIPs to the
/// client.
///
/// # Errors
/// The kernel refused.
pub async fn prepare(netlink: &Netlink, client: &[IpNet], vips: &[IpAddr]) -> Result<(), LabError> {
    let link = netlink.index(LB_TO_CLIENT).await?;
    for gateway in client.iter().map(IpNet::addr) {
        let family = Family::of(gateway);
        netlink.set_route(everything(family), TO_CLIENT, &[Via { gateway: Some(gateway), link }]).await?;
        let input = Some(LB_TO_CLIENT.to_owned());
        netlink.add_rule(&Rule { family, from: None, input, table: TO_TARGETS, priority: 99 }).await?;
    }
    for vip in vips {
        let family = Family::of(*vip);
        let from = Some(IpNet::from(*vip));
        netlink.add_rule(&Rule { family, from, input: None, table: TO_CLIENT, priority: 100 }).await?;
    }
    Ok(())
}

/// Drops all packets from a proxy without an answer, as if the machine behind the links were dead:
/// they stay up.
///
/// # Errors
/// The kernel refused.
pub async fn silence(netlink: &Netlink) -> Result<(), NetlinkError> {
    let links = netlink.links().await?;
    let links = links.into_iter().filter(|link| link.alias.starts_with(FROM_PROXY));
    let names: Vec<_> = links.map(|link| link.name).collect();
    for family in Family::BOTH {
        for name in &names {
            let input = Some(name.clone());
            netlink.add_rule(&Rule { family, from: None, input, table: 0, priority: SILENT }).await?;
        }
        netlink.add_rule(&local(family, SILENT + 1)).await?;
        netlink.delete_rule(&local(family, 0)).await?;
    }
    Ok(())
}

/// Reverts [`silence`].
///
/// # Errors
/// The kernel refused.
pub async fn speak(netlink: &Netlink) -> Result<(), NetlinkError> {
    for family in Family::BOTH {
        netlink.add_rule(&local(family, 0)).await?;
    }
    let rules = netlink.extra_rules().await?;
    for rule in rules.iter().filter(|rule| [SILENT, SILENT + 1].contains(&rule.priority)) {
        netlink.delete_rule(rule).await?;
    }
    Ok(())
}

/// The rule by which the kernel answers for the addresses of a pod, at a priority.
fn local(family: Family, priority: u32) -> Rule {
    Rule { family, from: None, input: None, table: LOCAL, priority }
}

/// Updates the routes from VIPs to targets as the links change. Does not return. `whole` is whether
/// every VIP has a route to every target.
pub async fn keep(
    netlink: Netlink,
    vips: Vec<IpAddr>,
    targets: watch::Receiver<Targets>,
    whole: watch::Sender<bool>,
) {
    let mut before = Vec::new();
    let mut wanted = Wanted { vips, targets: Vec::new() };
    let mut tick = tokio::time::interval(PACE);
    loop {
        tick.tick().await;
        wanted.targets = targets.borrow().addresses();
        match balance(&netlink, &wanted, &mut before).await {
            Ok(()) => drop(whole.send_replace(wanted.is_met_by(&before))),
            Err(error) => tracing::debug!(error = nsm::chain::causes(&error), "not balanced yet"),
        }
    }
}

async fn balance(
    netlink: &Netlink,
    wanted: &Wanted,
    before: &mut Vec<(IpAddr, Vec<Via>)>,
) -> Result<(), NetlinkError> {
    let mut links = Vec::new();
    for link in netlink.links().await?.into_iter().filter(|link| link.alias.starts_with(FROM_PROXY)) {
        links.push((link.index, netlink.addresses(link.index).await?));
    }
    let ways = wanted.vips.iter().map(|vip| (*vip, ways(*vip, &wanted.targets, &links))).collect::<Vec<_>>();
    for (vip, _) in before.iter().filter(|old| !ways.iter().any(|new| new.0 == old.0 && !new.1.is_empty())) {
        while netlink.delete_route((*vip).into(), TO_TARGETS).await? {}
    }
    for (vip, ways) in ways.iter().filter(|new| !new.1.is_empty() && !before.contains(new)) {
        let vip = (*vip).into();
        let links: BTreeSet<u32> = ways.iter().map(|way| way.link).collect();
        for (link, metric) in links.into_iter().zip(BEHIND..) {
            let own: Vec<Via> = ways.iter().filter(|way| way.link == link).copied().collect();
            netlink.set_route_behind(vip, TO_TARGETS, Some(metric), &own).await?;
        }
        netlink.set_route(vip, TO_TARGETS, ways).await?;
    }
    *before = ways;
    Ok(())
}

/// The routes to the targets of a VIP's family, each through the link whose subnet has it. Of
/// several the newest counts: a killed forwarder may have left the others.
fn ways(vip: IpAddr, targets: &[IpAddr], links: &[(u32, Vec<IpNet>)]) -> Vec<Via> {
    let targets = targets.iter().filter(|target| target.is_ipv4() == vip.is_ipv4());
    targets
        .filter_map(|target| Some(Via { gateway: Some(*target), link: link_of(*target, links)? }))
        .collect()
}

fn link_of(target: IpAddr, links: &[(u32, Vec<IpNet>)]) -> Option<u32> {
    links
        .iter()
        .filter(|(_, addresses)| addresses.iter().any(|net| net.contains(&target)))
        .map(|(link, _)| *link)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_behind_the_link_of_its_subnet_and_family() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let targets = ["172.16.1.6", "fd00:0:0:1::6", "172.16.2.6"].map(parse);
        let links = [
            (7, vec!["172.16.1.4/24".parse().unwrap(), "fd00:0:0:1::4/64".parse().unwrap()]),
            (9, vec!["172.16.3.4/24".parse().unwrap()]),
        ];
        let via = |gateway: &str| Via { gateway: Some(parse(gateway)), link: 7 };
        assert_eq!(ways(parse("20.0.0.1"), &targets, &links), [via("172.16.1.6")]);
        assert_eq!(ways(parse("2001:db8::1"), &targets, &links), [via("fd00:0:0:1::6")]);
        assert_eq!(ways(parse("20.0.0.1"), &targets, &[]), []);
    }
}
