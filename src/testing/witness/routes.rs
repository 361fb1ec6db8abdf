// SPDX-License-Identifier: Apache-2.0

//! Routes, and the route that the kernel chooses for a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    RouteNetlinkMessage::{GetRoute, NewRoute},
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteProtocol, RouteType},
};
use rustix::io::Errno;

use super::{
    dialogue::{ADD, REPLACE, ask, change, dump},
    links::{index, name},
};
use crate::api::Family;

/// Table main.
pub const MAIN: u32 = 254;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: IpNet,
    pub metric: u32,
    /// The program that made it.
    pub protocol: u8,
    pub kind: RouteType,
    /// Its next hops, in the kernel's order; none if it is a blackhole.
    pub hops: Vec<NextHop>,
}

/// A next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    pub via: Option<IpAddr>,
    /// Name of the link.
    pub dev: String,
}

/// The next hop that a packet takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub hop: NextHop,
    /// The table of the route.
    pub table: u32,
}

impl NextHop {
    /// A neighbour on a link.
    pub fn new(via: &str, dev: &str) -> Self {
        Self { via: Some(via.parse().unwrap()), dev: dev.to_owned() }
    }
}

/// The routes of a table, in the kernel's order.
pub fn routes(family: Family, table: u32) -> Vec<Route> {
    messages(family).iter().filter(|message| table_of(message) == table).map(seen).collect()
}

fn seen(message: &RouteMessage) -> Route {
    let any = any(message.header.address_family);
    let mut route = Route {
        to: IpNet::new(any, message.header.destination_prefix_length).unwrap(),
        metric: 0,
        protocol: message.header.protocol.into(),
        kind: message.header.kind,
        hops: hop(&message.attributes, None).into_iter().collect(),
    };
    if route.kind == RouteType::BlackHole {
        route.hops.clear(); // in IPv6 it is a route by `lo`
    }
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.to = IpNet::new(ip(to), route.to.prefix_len()).unwrap(),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::MultiPath(hops) => {
                route.hops =
                    hops.iter().filter_map(|one| hop(&one.attributes, Some(one.interface_index))).collect();
            }
            _ => {}
        }
    }
    route
}

fn any(family: AddressFamily) -> IpAddr {
    match family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        other => panic!("{other:?}"),
    }
}

/// One hop of several, or the only one, which stands in the route itself.
fn hop(attributes: &[RouteAttribute], dev: Option<u32>) -> Option<NextHop> {
    let own = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(dev) => Some(*dev),
        _ => None,
    });
    let via = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(via) => Some(ip(via)),
        _ => None,
    });
    Some(NextHop { via, dev: name(dev.or(own)?) })
}

fn ip(address: &RouteAddress) -> IpAddr {
    match address {
        RouteAddress::Inet(address) => (*address).into(),
        RouteAddress::Inet6(address) => (*address).into(),
        other => panic!("{other:?}"),
    }
}

fn table_of(message: &RouteMessage) -> u32 {
    let attribute = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap()
}

pub(super) fn messages(family: Family) -> Vec<RouteMessage> {
    dump(&GetRoute(empty(family)))
        .into_iter()
        .map(|answer| match answer {
            NewRoute(route) => route,
            other => panic!("not a route: {other:?}"),
        })
        .collect()
}

fn empty(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message
}

/// Adds a default route to a table. If no link is given, the kernel chooses one.
pub fn add_route(table: u32, hops: &[(&str, Option<&str>)]) {
    change(&NewRoute(default_route(table, hops)), ADD);
}

/// Replaces the default route of a table, as [`add_route`] adds it.
pub fn replace_route(table: u32, hops: &[(&str, Option<&str>)]) {
    change(&NewRoute(default_route(table, hops)), REPLACE);
}

fn default_route(table: u32, hops: &[(&str, Option<&str>)]) -> RouteMessage {
    let mut message = empty(Family::of(hops[0].0.parse().unwrap()));
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Table(table),
        RouteAttribute::MultiPath(
            hops.iter()
                .map(|(via, dev)| {
                    let mut hop = RouteNextHop::default();
                    hop.interface_index = dev.map_or(0, index);
                    hop.attributes = vec![RouteAttribute::Gateway(via.parse::<IpAddr>().unwrap().into())];
                    hop
                })
                .collect(),
        ),
    ];
    message
}

/// The route of a packet to an address: one of this host's own, or one with a source that enters by
/// a link.
///
/// # Errors
/// The kernel's reason for having no route: `INVAL` of a blackhole, `NETUNREACH` without a route.
pub fn route_get(to: IpAddr, from: Option<(IpAddr, &str)>) -> Result<Way, Errno> {
    let mut request = empty(Family::of(to));
    request.header.flags = RouteFlags::LookupTable;
    request.header.destination_prefix_length = Family::of(to).bits();
    request.attributes.push(RouteAttribute::Destination(to.into()));
    if let Some((source, input)) = from {
        request.header.source_prefix_length = Family::of(to).bits();
        request.attributes.push(RouteAttribute::Source(source.into()));
        request.attributes.push(RouteAttribute::Iif(index(input)));
    }
    match &ask(&GetRoute(request), 0)?[..] {
        [NewRoute(found)] => Ok(Way { hop: hop(&found.attributes, None).unwrap(), table: table_of(found) }),
        other => panic!("not one way: {other:?}"),
    }
}
