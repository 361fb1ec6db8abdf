// SPDX-License-Identifier: Apache-2.0
//! Spread what comes for a VIP over the targets, and send what comes from one to the client: the data path of a load balancer.
//!
//! Stateless, by the kernel's hash of a flow, where Meridio's load balancers use Maglev. The links to the targets are looked up in the
//! kernel: a target is behind the link that NSM made in its subnet. Until there is one, its share goes to the others.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::sync::watch;

use super::fabric::LB_TO_CLIENT;
use crate::{
    api::Family,
    lab::{
        error::LabError,
        network::{
            netlink::{Netlink, NetlinkError},
            routes::Via,
            rules::Rule,
        },
        topology::everything,
    },
};

/// Table of the ways to the targets.
const TO_TARGETS: u32 = 200;
/// Table of the way to the client, as Meridio's load balancers number it.
const TO_CLIENT: u32 = 4096;
/// How often the links are looked at.
const PACE: Duration = Duration::from_millis(50);

/// What a load balancer is to balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// VIPs.
    pub vips: Vec<IpAddr>,
    /// Addresses of the targets.
    pub targets: Vec<IpAddr>,
}

/// Install the rules of a load balancer: from the client to the targets, from the VIPs to the client.
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
        let (family, from) = (Family::of(*vip), Some(IpNet::from(*vip)));
        netlink.add_rule(&Rule { family, from, input: None, table: TO_CLIENT, priority: 100 }).await?;
    }
    Ok(())
}

/// Keep the routes to the targets as wanted and as the links allow, for ever.
pub async fn keep(netlink: Netlink, wanted: watch::Receiver<Wanted>) {
    let mut before = Vec::new();
    let mut tick = tokio::time::interval(PACE);
    loop {
        tick.tick().await;
        let now = wanted.borrow().clone();
        match balance(&netlink, &now, &mut before).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(error = crate::lab::error::explain(&error), "not balanced yet"),
        }
    }
}

async fn balance(
    netlink: &Netlink,
    wanted: &Wanted,
    before: &mut Vec<(IpAddr, Vec<Via>)>,
) -> Result<(), NetlinkError> {
    let mut links = Vec::new();
    for link in netlink.links().await?.into_iter().filter(|link| link.alias.starts_with("client-")) {
        links.push((link.index, netlink.addresses(link.index).await?));
    }
    let ways = wanted.vips.iter().map(|vip| (*vip, ways(*vip, &wanted.targets, &links))).collect::<Vec<_>>();
    for (vip, _) in before.iter().filter(|old| !ways.iter().any(|new| new.0 == old.0 && !new.1.is_empty())) {
        netlink.delete_route((*vip).into(), TO_TARGETS).await?;
    }
    for (vip, ways) in ways.iter().filter(|new| !new.1.is_empty() && !before.contains(new)) {
        netlink.set_route((*vip).into(), TO_TARGETS, ways).await?;
    }
    *before = ways;
    Ok(())
}

/// The ways to the targets of a VIP's family, each through the link whose subnet has it.
fn ways(vip: IpAddr, targets: &[IpAddr], links: &[(u32, Vec<IpNet>)]) -> Vec<Via> {
    let targets = targets.iter().filter(|target| target.is_ipv4() == vip.is_ipv4());
    let link_of = |target: &IpAddr| {
        links
            .iter()
            .find(|(_, addresses)| addresses.iter().any(|net| net.contains(target)))
            .map(|(link, _)| *link)
    };
    targets.filter_map(|target| Some(Via { gateway: Some(*target), link: link_of(target)? })).collect()
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
