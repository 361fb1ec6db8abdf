// SPDX-License-Identifier: Apache-2.0
//! Makes IPAM lose its store: it returns another subnet to the next target that joins.

use std::time::Duration;

use ipnet::IpNet;

use crate::{
    error::{Doing, LabError},
    run::eventually,
    topology::CONDUIT,
    world::World,
};
use nsm::api::parse_prefixes;
use nsm::chain::causes;

/// Timeout of the newcomer: it is refused until the bridge has the other subnet's address.
const JOIN: Duration = Duration::from_secs(10);
/// Timeout until all connections have moved.
const MOVE: Duration = Duration::from_secs(30);
/// How long load balancers may keep their former addresses after that.
const DROP: Duration = Duration::from_secs(20);

/// Renumbers, and waits until every connection has moved and no load balancer has a former address.
/// The former gateways stay a minute longer.
pub(super) async fn renumber(world: &mut World) -> Result<(), LabError> {
    let former = world.datapath(0).await?.gateways;
    let tree = world.ipam.tree();
    tree.remove_conduit(CONDUIT);
    for conduit in ["another", CONDUIT] {
        tree.add_conduit(conduit).doing(|| format!("add conduit {conduit}"))?;
    }
    let pod = world.guest("newcomer").await?;
    let mut newcomer = world.guest_target(&pod)?;
    eventually("a newcomer joins", JOIN, async || newcomer.connect().await.map_err(|error| causes(&error)))
        .await?;
    newcomer.stop().await;
    eventually("every connection has moved", MOVE, async || moved(world, &former).await).await?;
    eventually("former addresses are dropped", DROP, async || dropped(world, &former)).await.map(drop)
}

/// Whether no load balancer has an address in the subnets of the former gateways.
fn dropped(world: &World, former: &[IpNet]) -> Result<(), String> {
    let ids =
        world.lbs.values().flat_map(|lb| lb.connections().ids(|_| true).into_iter().map(move |id| (lb, id)));
    let connections = ids.filter_map(|(lb, id)| lb.connections().get(&id));
    let addresses = connections.flat_map(|connection| {
        connection.ip_context().map(|ip| parse_prefixes(&ip.dst_ip_addrs)).unwrap_or_default()
    });
    let left: Vec<_> = addresses.filter(|net| former.iter().any(|old| old.contains(&net.addr()))).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are not")) }
}

/// Whether every target and every next hop has left the subnets of the former gateways.
async fn moved(world: &World, former: &[IpNet]) -> Result<(), String> {
    let next_hops = world.datapath(0).await.map_err(|error| causes(&error))?.next_hops;
    let wanted = world.topology.families.len() * world.lbs.len();
    if next_hops.len() != wanted {
        return Err(format!("{} next hops instead of {wanted}", next_hops.len()));
    }
    let targets = world.targets.iter().flat_map(|target| target.addresses()).map(|net| net.addr());
    let left = next_hops.into_iter().chain(targets);
    let left: Vec<_> = left.filter(|address| former.iter().any(|net| net.contains(address))).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?} have not")) }
}
