// SPDX-License-Identifier: Apache-2.0
//! Builds the part of the network that exists before NSM: pods, their kernel parameters, cables and
//! routes.

use ipnet::IpNet;

use crate::{
    error::{Doing, LabError},
    network::routes::{MAIN, Via},
    pods::{
        ground::Ground,
        pod::{End, Pod},
    },
    topology::{self, Topology, client, everything},
};
use nsm::api::Family;

/// The sysctls of the proxy's init container; NSM's own pods need no more.
const SYSCTLS: [(&str, &str); 7] = [
    ("ipv4/conf/all/forwarding", "1"),
    ("ipv4/fib_multipath_hash_policy", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/fib_multipath_hash_policy", "1"),
    ("ipv6/conf/all/accept_dad", "0"),
];
/// In simulated pods, link-local addresses are usable at once too.
const NO_DAD: [(&str, &str); 2] =
    [("ipv6/conf/default/accept_dad", "0"), ("ipv6/conf/default/dad_transmits", "0")];
/// The kernel's defaults of the same.
const DAD: [(&str, &str); 2] =
    [("ipv6/conf/default/accept_dad", "1"), ("ipv6/conf/default/dad_transmits", "1")];

/// The link of a load balancer towards the client.
pub const LB_TO_CLIENT: &str = "ext0";
/// The primary link of the proxy's pod.
pub const PRIMARY: &str = "eth0";

/// The pods of a run.
pub struct Fabric {
    /// The client of the VIPs; also the gateway behind the load balancers.
    pub client: Pod,
    /// Load balancers.
    pub lbs: Vec<Pod>,
    /// Proxies, one for each node.
    pub proxies: Vec<Pod>,
    /// Targets.
    pub targets: Vec<Pod>,
    /// The other end of the primary network.
    pub outside: Pod,
    /// The pod of nsmgr and forwarder; the forwarder makes links here before it moves them.
    pub node: Pod,
}

impl Fabric {
    /// Builds it.
    ///
    /// # Errors
    /// The operation that the kernel refused.
    pub async fn build(topology: &Topology, ground: &Ground) -> Result<Self, LabError> {
        let mut lbs = Vec::new();
        for name in topology.lb_names() {
            lbs.push(pod(&name, ground, &[&NO_DAD, &SYSCTLS]).await?);
        }
        let mut targets = Vec::new();
        for name in topology.target_names() {
            targets.push(pod(&name, ground, &[&NO_DAD]).await?);
        }
        let mut proxies = Vec::new();
        for node in topology.node_numbers() {
            proxies.push(pod(&topology::proxy_pod(node), ground, &[&NO_DAD, &SYSCTLS]).await?);
        }
        let fabric = Self {
            client: pod("client", ground, &[&NO_DAD, &SYSCTLS]).await?,
            lbs,
            proxies,
            targets,
            outside: pod("outside", ground, &[&NO_DAD]).await?,
            node: pod("node", ground, &[]).await?,
        };
        fabric.connect_client(topology).await?;
        for (node, proxy) in fabric.proxies.iter().enumerate() {
            fabric.connect_outside(topology, node, proxy).await?;
        }
        Ok(fabric)
    }

    /// Every pod.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        let single = [&self.client, &self.outside, &self.node];
        single.into_iter().chain(&self.proxies).chain(&self.lbs).chain(&self.targets)
    }

    async fn connect_client(&self, topology: &Topology) -> Result<(), LabError> {
        let client_pod = &self.client;
        let own: Vec<IpNet> = topology.families.iter().map(|family| client(*family).into()).collect();
        client_pod.netlink.set_addresses(client_pod.netlink.index("lo").await?, &own).await?;
        for (number, lb) in (1..).zip(&self.lbs) {
            let [here, there] = topology.client_cable(number);
            let end = End { name: &lb.name, addresses: &here };
            client_pod.cable(end, lb, End { name: LB_TO_CLIENT, addresses: &there }).await?;
            let back = lb.netlink.index(LB_TO_CLIENT).await?;
            for family in &topology.families {
                let gateway = here.iter().map(IpNet::addr).find(|address| Family::of(*address) == *family);
                lb.netlink.set_route(client(*family).into(), MAIN, &[Via { gateway, link: back }]).await?;
            }
        }
        let every: Vec<usize> = (0..self.lbs.len()).collect();
        self.route_client(topology, &every).await
    }

    /// Routes the client to the VIPs through these load balancers, by their numbers from 0, as a
    /// gateway does that monitors which of them are alive. With none, nothing changes.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn route_client(&self, topology: &Topology, lbs: &[usize]) -> Result<(), LabError> {
        let mut ways = Vec::new();
        for lb in lbs {
            let Some(pod) = self.lbs.get(*lb) else { continue };
            let [_, there] = topology.client_cable(lb + 1);
            ways.push((self.client.netlink.index(&pod.name).await?, there));
        }
        if ways.is_empty() {
            return Ok(());
        }
        for vip in topology.vips().into_iter().chain(topology.spare_vips()) {
            let through = ways.iter().map(|(link, addresses)| {
                let gateway =
                    addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == vip.is_ipv4());
                Via { gateway, link: *link }
            });
            self.client.netlink.set_route(vip.into(), MAIN, &through.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    async fn connect_outside(&self, topology: &Topology, node: usize, proxy: &Pod) -> Result<(), LabError> {
        let [outside, primary] = topology.primary_cable(node);
        let end = End { name: &topology::node(node), addresses: &outside };
        self.outside.cable(end, proxy, End { name: PRIMARY, addresses: &primary }).await?;
        // The primary link exists long before the proxy; the links that NSM makes later are as they
        // would be in a cluster.
        let defaults = DAD.as_slice();
        proxy.netns.configure(defaults).doing(|| "restore kernel parameters of the proxy".into())?;
        let link = proxy.netlink.index(PRIMARY).await?;
        for gateway in outside.iter().map(IpNet::addr) {
            let all = everything(Family::of(gateway));
            proxy.netlink.set_route(all, MAIN, &[Via { gateway: Some(gateway), link }]).await?;
        }
        Ok(())
    }
}

async fn pod(name: &str, ground: &Ground, parameters: &[&[(&str, &str)]]) -> Result<Pod, LabError> {
    let pod = Pod::new(name, ground).await?;
    let set = parameters.iter().try_for_each(|parameters| pod.netns.configure(parameters));
    set.doing(|| format!("set kernel parameters of pod {name}"))?;
    Ok(pod)
}
