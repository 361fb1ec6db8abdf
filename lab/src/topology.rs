// SPDX-License-Identifier: Apache-2.0
//! The network of a run: numbers, names and addresses. `Display` draws it.
//!
//! ```text
//! client ──┬─ lb1 ─┬── proxy ──┬─ t1
//!          └─ lb2 ─┘     │     ├─ t2
//!                     outside  └─ t3
//! ```
//! Client, load balancers and `outside` are joined by cables from the start. The links between load
//! balancers, proxy and targets are made by NSM only.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use ipnet::IpNet;

use nsm::api::Family;

/// The Kubernetes namespace of the trench.
pub const NAMESPACE: &str = "red";
/// The trench.
pub const TRENCH: &str = "trench-a";
/// Name of the conduit.
pub const CONDUIT: &str = "load-balancer";
/// Name of the first node, on which nsmgr and forwarder run for all nodes.
pub const NODE: &str = "node-1";
/// Ports of IPAM and NSP, on the address of `outside`.
pub const IPAM_PORT: u16 = 7777;
/// See [`IPAM_PORT`].
pub const NSP_PORT: u16 = 7778;
/// MTU of every NSM link.
pub const MTU: u32 = 1400;

/// The network of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Number of nodes: each has a proxy, and its share of the targets.
    pub nodes: usize,
    /// Number of load balancers.
    pub lbs: usize,
    /// Number of targets.
    pub targets: usize,
    /// Number of VIPs in each family.
    pub vips: usize,
    /// Families, in order.
    pub families: Vec<Family>,
}

impl Topology {
    /// One of each, IPv4 only: enough for the first packet.
    pub fn smallest() -> Self {
        Self { nodes: 1, lbs: 1, targets: 1, vips: 1, families: vec![Family::V4] }
    }

    /// Two load balancers, three targets, two VIPs in each family.
    pub fn whole() -> Self {
        Self { nodes: 1, lbs: 2, targets: 3, vips: 2, families: Family::BOTH.to_vec() }
    }

    /// Two nodes with two targets each, two load balancers, one VIP in each family.
    pub fn two_nodes() -> Self {
        Self { nodes: 2, lbs: 2, targets: 4, vips: 1, families: Family::BOTH.to_vec() }
    }

    /// The VIPs, by family and number.
    pub fn vips(&self) -> Vec<IpAddr> {
        self.families
            .iter()
            .flat_map(|family| (1..=self.vips).map(move |number| vip(*family, number)).collect::<Vec<_>>())
            .collect()
    }

    /// One more VIP in each family, for a run to add.
    pub fn spare_vips(&self) -> Vec<IpAddr> {
        self.families.iter().map(|family| vip(*family, self.vips + 1)).collect()
    }

    /// Numbers of the nodes, from 0.
    pub fn node_numbers(&self) -> Range<usize> {
        0..self.nodes
    }

    /// The number of the node of a target, both from 0.
    pub fn node_of(&self, target: usize) -> usize {
        (target * self.nodes).checked_div(self.targets).unwrap_or_default()
    }

    /// Names of the load balancers.
    pub fn lb_names(&self) -> Vec<String> {
        (1..=self.lbs).map(|number| format!("lb{number}")).collect()
    }

    /// Names of the targets.
    pub fn target_names(&self) -> Vec<String> {
        (1..=self.targets).map(|number| format!("t{number}")).collect()
    }

    /// Addresses of both ends of the cable between the client and a load balancer, the client's
    /// first.
    pub fn client_cable(&self, lb: usize) -> [Vec<IpNet>; 2] {
        self.both_ends(|family, host| match family {
            Family::V4 => (Ipv4Addr::new(198, 18, number(lb), host).into(), 24),
            Family::V6 => (Ipv6Addr::new(0xfd01, 0, 0, number(lb).into(), 0, 0, 0, host.into()).into(), 64),
        })
    }

    /// Addresses of both ends of the primary link of a proxy, by the number of its node, those of
    /// `outside` first.
    pub fn primary_cable(&self, node: usize) -> [Vec<IpNet>; 2] {
        self.both_ends(|family, host| match family {
            Family::V4 => (Ipv4Addr::new(10, 244, number(node), host).into(), 24),
            Family::V6 => (Ipv6Addr::new(0xfd02, 0, 0, number(node).into(), 0, 0, 0, host.into()).into(), 64),
        })
    }

    fn both_ends(&self, address: impl Fn(Family, u8) -> (IpAddr, u8)) -> [Vec<IpNet>; 2] {
        [1, 2].map(|host| {
            let end = self.families.iter().map(|family| address(*family, host));
            end.filter_map(|(address, length)| IpNet::new(address, length).ok()).collect()
        })
    }
}

fn number(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Name of a node, by its number from 0.
pub fn node(number: usize) -> String {
    format!("node-{}", number + 1)
}

/// Name of the proxy of a node, in NSM.
pub fn proxy(node: usize) -> String {
    format!("proxy-a{}", node + 1)
}

/// Name of the pod of the proxy of a node, in the lab and in the picture.
pub fn proxy_pod(node: usize) -> String {
    if node == 0 { "proxy".to_owned() } else { format!("proxy{}", node + 1) }
}

/// The VIP of a number, from 1.
pub fn vip(family: Family, which: usize) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(20, 0, 0, number(which)).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, number(which).into()).into(),
    }
}

/// The source address of the client.
pub fn client(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 10).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 10).into(),
    }
}

/// The prefix of every destination.
pub fn everything(family: Family) -> IpNet {
    let unspecified = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new_assert(unspecified, 0)
}

/// Network service of the load balancers.
pub fn lb_service() -> String {
    format!("{CONDUIT}.{TRENCH}.{NAMESPACE}")
}

/// Network service of the proxies, requested by targets.
pub fn proxy_service() -> String {
    format!("proxy.{}", lb_service())
}

/// The corner before item `row` of `count`: a branch, the last branch, or nothing.
fn corner(row: usize, count: usize, [only, first, middle, last]: [char; 4]) -> Option<char> {
    match row {
        _ if row >= count => None,
        0 if count == 1 => Some(only),
        0 => Some(first),
        _ if row + 1 == count => Some(last),
        _ => Some(middle),
    }
}

impl Topology {
    /// The column between load balancers and targets, by row.
    fn middle(&self) -> Vec<String> {
        let rows = self.targets.max(3);
        let mut middle = vec![" ".repeat(12); rows];
        for node in self.node_numbers() {
            let first_target = (0..self.targets).find(|target| self.node_of(*target) == node);
            if let Some(row) = first_target.and_then(|row| middle.get_mut(row)) {
                *row = format!("── {:<6} ──", proxy_pod(node));
            }
        }
        if self.nodes == 1 {
            middle[1] = "     │      ".to_owned();
            middle[2] = "  outside   ".to_owned();
        }
        middle
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lbs = self.lb_names();
        let targets = self.target_names();
        let middle = self.middle();
        for row in 0..lbs.len().max(targets.len()).max(middle.len()) {
            let client = if row == 0 { "client ──" } else { "         " };
            let left = corner(row, lbs.len(), ['─', '┬', '├', '└']);
            let right = corner(row, lbs.len(), ['─', '┬', '┤', '┘']);
            let lb = match (left, right, lbs.get(row)) {
                (Some(left), Some(right), Some(name)) => format!("{left}─ {name:<3} ─{right}"),
                _ => " ".repeat(9),
            };
            let middle = middle.get(row).map_or("            ", String::as_str);
            let target = targets.get(row).map_or_else(String::new, |name| {
                let node = self.node_of(row);
                let first = (0..row).filter(|target| self.node_of(*target) != node).count();
                let count = (0..targets.len()).filter(|target| self.node_of(*target) == node).count();
                let corner = corner(row - first, count, ['─', '┬', '├', '└']);
                corner.map_or_else(String::new, |corner| format!("{corner}─ {name}"))
            });
            writeln!(f, "  {client}{lb}{middle}{target}")?;
        }
        let vips = self.vips().iter().map(ToString::to_string).collect::<Vec<_>>().join("  ");
        write!(f, "  VIPs  {vips}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_topology_is_used_once() {
        let topology = Topology::whole();
        let mut addresses = topology.vips();
        addresses.extend(topology.spare_vips());
        addresses.extend(Family::BOTH.map(client));
        let cables =
            (1..=topology.lbs).map(|lb| topology.client_cable(lb)).chain([topology.primary_cable(0)]);
        addresses.extend(cables.flatten().flatten().map(|net| net.addr()));
        let count = addresses.len();
        assert_eq!(count, 4 + 2 + 2 + 3 * 4);
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), count, "{addresses:?}");
    }

    #[test]
    fn the_picture_names_everyone() {
        let picture = Topology::whole().to_string();
        for name in
            ["client", "lb1", "lb2", "proxy", "t1", "t2", "t3", "outside", "20.0.0.2", "2001:db8:20::1"]
        {
            assert!(picture.contains(name), "{name} is not in\n{picture}");
        }
        let lines: Vec<_> = picture.lines().collect();
        assert_eq!(lines[0], "  client ──┬─ lb1 ─┬── proxy  ──┬─ t1");
        assert_eq!(lines[2], "                      outside   └─ t3");
        assert!(Topology::smallest().to_string().starts_with("  client ──── lb1 ──── proxy  ──── t1\n"));
        let picture = Topology::two_nodes().to_string();
        let lines: Vec<_> = picture.lines().collect();
        assert_eq!(lines[1], "           └─ lb2 ─┘            └─ t2");
        assert_eq!(lines[2], "                    ── proxy2 ──┬─ t3");
    }
}
