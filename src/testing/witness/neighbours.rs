// SPDX-License-Identifier: Apache-2.0

//! Link-layer addresses of neighbours.

use std::{collections::BTreeMap, net::IpAddr};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        AddressFamily,
        RouteNetlinkMessage::{GetNeighbour, NewNeighbour},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};

use super::{
    dialogue::{change, dump},
    links::index,
};

/// The neighbours on a link whose link-layer address is known.
pub fn neighbours(link: &str) -> BTreeMap<IpAddr, Vec<u8>> {
    let link = index(link);
    let known =
        dump(&GetNeighbour(NeighbourMessage::default())).into_iter().filter_map(|answer| match answer {
            NewNeighbour(neighbour) if neighbour.header.ifindex == link => seen(&neighbour),
            _ => None,
        });
    known.collect()
}

/// The state of a neighbour's entry on a link; `None` without an entry.
pub fn neighbour(link: &str, address: IpAddr) -> Option<NeighbourState> {
    let link = index(link);
    let wanted = NeighbourAttribute::Destination(address.into());
    dump(&GetNeighbour(NeighbourMessage::default())).into_iter().find_map(|answer| match answer {
        NewNeighbour(it) if it.header.ifindex == link && it.attributes.contains(&wanted) => {
            Some(it.header.state)
        }
        _ => None,
    })
}

fn seen(message: &NeighbourMessage) -> Option<(IpAddr, Vec<u8>)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(there)) => {
                address = Some(IpAddr::V4(*there))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(there)) => {
                address = Some(IpAddr::V6(*there))
            }
            NeighbourAttribute::LinkLayerAddress(there) => mac = Some(there.clone()),
            _ => {}
        }
    }
    Some((address?, mac?))
}

/// Sets the link-layer address of a neighbour permanently.
pub fn set_neighbour(link: &str, address: IpAddr, mac: [u8; 6]) {
    note_neighbour(link, address, mac, NeighbourState::Permanent);
}

/// Adds a neighbour with this MAC address to a link, as if it had just answered.
pub fn learn_neighbour(link: &str, address: IpAddr, mac: [u8; 6]) {
    note_neighbour(link, address, mac, NeighbourState::Reachable);
}

/// Adds a static entry to the forwarding database of the bridge of a port.
pub fn set_forward(port: &str, mac: [u8; 6]) {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index(port);
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.into())];
    change(&NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE);
}

fn note_neighbour(link: &str, address: IpAddr, mac: [u8; 6], state: NeighbourState) {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index(link);
    message.header.state = state;
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.into()),
    ];
    change(&NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE);
}
