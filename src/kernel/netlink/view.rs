// SPDX-License-Identifier: Apache-2.0

//! Reads the objects that decide about a packet, for [`explain`](crate::kernel::explain).

use std::collections::BTreeMap;

use rtnetlink::packet_route::{
    AddressFamily,
    RouteNetlinkMessage::{GetLink, GetNeighbour, NewLink, NewNeighbour},
    link::LinkMessage,
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use super::{
    Netlink, Requests, address_family,
    dump::{interface, neighbour},
    requests::unless,
};
use crate::kernel::{
    Mac, Ours, Refusal, Statistics,
    backend::errno,
    explain::{Forward, Neighbour, View},
    wrong_sysctls,
};

/// Reads the network namespace of the calling thread, without changing it.
///
/// # Errors
/// The netlink socket cannot be opened, or the kernel refuses a dump.
pub(crate) async fn view(ours: &Ours) -> Result<View, Refusal> {
    let mut netlink = Netlink::open().map_err(Refusal::broken)?;
    let observed = netlink.all(ours).await?;
    let families: Vec<_> = observed.families().collect();
    let mut view = View {
        counters: counters(&netlink.requests).await?,
        wrong_sysctls: wrong_sysctls(&families, &ours.bridge),
        observed,
        ..View::default()
    };
    let Some(bridge) = netlink.bridge else { return Ok(view) };
    for family in families {
        for entry in neighbours(&netlink.requests, address_family(family)).await? {
            if entry.header.ifindex == bridge
                && let Some((address, entry)) = on_bridge(&entry)
            {
                view.neighbours.insert(address, entry);
            }
        }
    }
    let entries = neighbours(&netlink.requests, AddressFamily::Bridge).await?;
    view.fdb = entries.filter_map(|entry| forward(&entry, bridge)).collect();
    Ok(view)
}

async fn counters(requests: &Requests) -> Result<BTreeMap<u32, Statistics>, Refusal> {
    let links = requests.dump(GetLink(LinkMessage::default())).await?;
    let links = links.iter().filter_map(|answer| match answer {
        NewLink(link) => Some(interface(link)),
        _ => None,
    });
    Ok(links.map(|link| (link.index, link.statistics)).collect())
}

/// The entries of a family. A kernel may lack IPv6 or bridges.
async fn neighbours(
    requests: &Requests,
    family: AddressFamily,
) -> Result<impl Iterator<Item = NeighbourMessage>, Refusal> {
    let mut request = NeighbourMessage::default();
    request.header.family = family;
    let answers = unless(errno::EAFNOSUPPORT, requests.dump(GetNeighbour(request)).await)?;
    Ok(answers.unwrap_or_default().into_iter().filter_map(|answer| match answer {
        NewNeighbour(entry) => Some(entry),
        _ => None,
    }))
}

fn on_bridge(message: &NeighbourMessage) -> Option<(std::net::IpAddr, Neighbour)> {
    let entry = neighbour(message)?;
    Some((entry.ip.parse().ok()?, Neighbour { mac: mac(message), state: entry.state }))
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::of(bytes),
        _ => None,
    })
}

/// An entry of the forwarding database of a bridge; `None` if it belongs to another bridge, or to
/// the filter of a device.
fn forward(message: &NeighbourMessage, bridge: u32) -> Option<(Mac, Forward)> {
    let port = message.header.ifindex;
    let ours = port == bridge || message.attributes.contains(&NeighbourAttribute::Controller(bridge));
    let local = message.header.state == NeighbourState::Permanent;
    ours.then(|| Some((mac(message)?, Forward { port, local })))?
}
