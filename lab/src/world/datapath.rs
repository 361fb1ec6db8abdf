// SPDX-License-Identifier: Apache-2.0
//! Reads the data path of a proxy from the kernel: its rules, ports, gateways and next hops.

use std::net::IpAddr;

use ipnet::IpNet;

use super::World;
use crate::{
    error::{Doing, LabError},
    network::rules::Rule,
};

/// Table of the proxy's next hops.
pub const NEXT_HOPS: u32 = 1;
/// The proxy's bridge.
pub const BRIDGE: &str = "bridge0";

/// The data path of a proxy, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datapath {
    /// Rules.
    pub rules: Vec<Rule>,
    /// Names of the ports of the bridge.
    pub ports: Vec<String>,
    /// Addresses of the bridge.
    pub gateways: Vec<IpNet>,
    /// Next hops of packets from a VIP.
    pub next_hops: Vec<IpAddr>,
}

impl World {
    /// The data path of the proxy of a node.
    ///
    /// # Errors
    /// A dump failed, or there is no bridge.
    pub async fn datapath(&self, node: usize) -> Result<Datapath, LabError> {
        let pod = self.fabric.proxies.get(node).ok_or("there is none");
        let netlink = &pod.doing(|| format!("find the proxy of node {node}"))?.netlink;
        let bridge = netlink.index(BRIDGE).await?;
        let mut rules = netlink.extra_rules().await?;
        rules.sort_by_key(|rule| (rule.family, rule.priority, rule.from, rule.table));
        let links = netlink.links().await?.into_iter();
        let mut ports: Vec<_> =
            links.filter(|link| link.controller == Some(bridge)).map(|link| link.name).collect();
        ports.sort();
        let mut gateways = netlink.addresses(bridge).await?;
        gateways.sort();
        let mut next_hops = netlink.next_hops(NEXT_HOPS).await?;
        next_hops.sort();
        Ok(Datapath { rules, ports, gateways, next_hops })
    }
}
