// SPDX-License-Identifier: Apache-2.0
//! Follows one connection of a target, from its first Request to its Close, in answers and in the
//! kernel.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{Run, verdict::Verdict};
use crate::{
    error::LabError,
    network::netlink::NetlinkError,
    pods::pod::Pod,
    world::target::{LINK, Target},
};

/// Number of refreshes of the connection.
const REFRESHES: usize = 10;

/// The kernel objects of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Objects {
    /// Index of the target's link.
    link: Option<u32>,
    /// Its addresses, sorted.
    addresses: Vec<IpAddr>,
    /// Rules of the target's policies.
    rules: usize,
    /// Index of the proxy's link.
    port: Option<u32>,
}

async fn objects(run: &Run, pod: &Pod, id: &str) -> Result<Objects, NetlinkError> {
    let link = pod.netlink.link(LINK).await?.map(|link| link.index);
    let mut addresses: Vec<IpAddr> = match link {
        Some(link) => pod.netlink.addresses(link).await?.iter().map(IpNet::addr).collect(),
        None => Vec::new(),
    };
    addresses.sort();
    let rules = pod.netlink.extra_rules().await?.len();
    let ports = run.world.fabric.proxies[0].netlink.links().await?;
    let port = ports.iter().find(|port| port.alias == format!("client-{id}")).map(|port| port.index);
    Ok(Objects { link, addresses, rules, port })
}

fn sorted(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut sorted: Vec<_> = addresses.into_iter().collect();
    sorted.sort();
    sorted
}

/// The token in the proxy's last answer, which differs in each.
fn token(target: &Target) -> Option<String> {
    Some(target.connection()?.segments().last()?.token.clone())
}

/// Refreshes a connection ten times: the proxy answers each time, and the kernel does not change.
async fn refresh(run: &Run, pod: &Pod, target: &mut Target, before: &Objects) -> Result<Verdict, LabError> {
    let id = target.id();
    let mut same = 0;
    let mut tokens = BTreeSet::from([token(target)]);
    for _ in 0..REFRESHES {
        target.connect().await?;
        same += usize::from(objects(run, pod, &id).await? == *before);
        tokens.insert(token(target));
    }
    let answers = tokens.len() - 1;
    let good = same == REFRESHES && answers == REFRESHES;
    let verdict = Verdict::new("ten refreshes each reach the proxy and change nothing", good);
    Ok(verdict.figure("without a change", same).figure("new tokens of the proxy", answers))
}

/// A target that joins, carries every VIP, refreshes its connection ten times, and leaves.
pub(super) async fn of_a_connection(run: &mut Run) -> Result<(), LabError> {
    let pod = run.world.guest("visitor").await?;
    let mut target = run.world.guest_target(&pod)?;
    let id = target.id();
    let vips = run.world.topology.vips();
    let families = run.world.topology.families.len();

    target.connect().await?;
    let joined = objects(run, &pod, &id).await?;
    let own: Vec<IpAddr> = target.addresses().iter().map(IpNet::addr).collect();
    let complete = own.len() == families && target.gateways().len() == families;
    let linked = joined.link.is_some() && joined.port.is_some();
    let path = target.connection().map(|connection| {
        connection.segments().iter().map(|segment| segment.name.clone()).collect::<Vec<_>>().join(" ")
    });
    let good = complete && linked && joined.addresses == sorted(own.clone());
    let verdict = Verdict::new("a target's Request gives it a link with its addresses", good);
    run.judge(verdict.figure("path", path.unwrap_or_default()));

    target.set_vips(&vips).await?;
    let carrying = objects(run, &pod, &id).await?;
    let wanted = Objects {
        addresses: sorted(own.into_iter().chain(vips.iter().copied())),
        rules: vips.len(),
        ..joined.clone()
    };
    let verdict = Verdict::new("its VIP update adds VIPs and their routes to that link", carrying == wanted);
    run.judge(verdict.figure("VIPs", vips.len()));

    let verdict = refresh(run, &pod, &mut target, &carrying).await?;
    run.judge(verdict);

    target.close().await?;
    let left = objects(run, &pod, &id).await?;
    run.judge(Verdict::new(
        "its Close takes the link with its VIPs and routes away",
        left == Objects::default(),
    ));
    target.stop().await;
    Ok(())
}
