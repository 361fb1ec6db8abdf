// SPDX-License-Identifier: Apache-2.0

//! Dumps all links, rules, routes and neighbours of a network namespace, for `proxy --debug`.
//!
//! The JSON names are those of Meridio's debug export v0.0.1; `input-interface`, `action` and
//! `metric` are added. Reading needs no capability.

use std::{collections::BTreeMap, io, net::IpAddr};

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    RouteNetlinkMessage::{
        self, GetAddress, GetLink, GetNeighbour, GetRoute, GetRule, NewAddress, NewLink, NewNeighbour,
        NewRoute, NewRule,
    },
    address::AddressMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage},
    rule::{RuleAttribute, RuleMessage},
};
use serde::Serialize;

use super::{
    Checks, Requests,
    parse::{net, route_address, table},
};
use crate::kernel::{Mac, Refusal, backend::errno};

/// Table local, whose routes are left out, as `ip route` does.
const LOCAL: u32 = 255;

/// The contents of a network namespace.
#[derive(Debug, Default)]
pub struct Dump {
    /// Links, with their addresses.
    pub interfaces: Vec<Interface>,
    /// Rules of both families.
    pub rules: Vec<DumpedRule>,
    /// Routes of all tables except local, of both families.
    pub routes: Vec<DumpedRoute>,
    /// Neighbours of both families.
    pub neighbours: Vec<DumpedNeighbour>,
}

/// A link.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) ips: Vec<String>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) master_index: u32,
    pub(crate) statistics: Statistics,
}

/// Counters of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Statistics {
    /// Received packets.
    pub rx_packets: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Received bytes.
    pub rx_bytes: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Packets that were received with an error.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Packets that were dropped instead of being sent.
    pub tx_dropped: u64,
}

/// A rule.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DumpedRule {
    table: u32,
    priority: u32,
    mark: u32,
    source: String,
    destination: String,
    input_interface: String,
    action: String,
}

/// A route.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DumpedRoute {
    table: u32,
    interface_index: u32,
    destination: String,
    nexthops: Vec<String>,
    gateway: String,
    source: String,
    metric: u32,
    action: String,
}

/// A neighbour.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DumpedNeighbour {
    pub(super) ip: String,
    mac: String,
    pub(super) state: String,
    interface_index: u32,
}

/// Dumps the network namespace of the calling thread.
///
/// # Errors
/// The netlink socket cannot be opened, or the kernel refuses a dump.
pub async fn dump() -> Result<Dump, Refusal> {
    let requests = Requests::open(Checks::IfPossible).map_err(|error: io::Error| Refusal::broken(error))?;
    let mut interfaces = BTreeMap::new();
    for answer in requests.dump(GetLink(LinkMessage::default())).await? {
        if let NewLink(link) = answer {
            interfaces.insert(link.header.index, interface(&link));
        }
    }
    let mut dump = Dump::default();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for answer in of_family(&requests, family).await? {
            match answer {
                NewAddress(address) => {
                    if let Some(link) = interfaces.get_mut(&address.header.index) {
                        link.ips.extend(net(&address).map(|net| net.to_string()));
                    }
                }
                NewRule(it) => dump.rules.push(rule(&it, family)),
                NewRoute(it) if table(&it) != LOCAL => dump.routes.push(route(&it, family)),
                NewNeighbour(it) => dump.neighbours.extend(neighbour(&it)),
                _ => {}
            }
        }
    }
    dump.interfaces = interfaces.into_values().collect();
    Ok(dump)
}

/// Addresses, rules, routes and neighbours of a family. A kernel may lack IPv6.
async fn of_family(requests: &Requests, family: AddressFamily) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
    let mut address = AddressMessage::default();
    address.header.family = family;
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.family = family;
    let mut all = Vec::new();
    for message in [GetAddress(address), GetRule(rule), GetRoute(route), GetNeighbour(neighbour)] {
        match requests.dump(message).await {
            Ok(answers) => all.extend(answers),
            Err(refusal) if refusal.errno == errno::EAFNOSUPPORT => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(all)
}

fn mac(bytes: &[u8]) -> String {
    Mac::of(bytes).map(|mac| mac.to_string()).unwrap_or_default()
}

pub(super) fn interface(message: &LinkMessage) -> Interface {
    let up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Interface { index: message.header.index, up, ..Interface::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master_index = *index,
            LinkAttribute::Stats64(stats) => {
                link.statistics = Statistics {
                    rx_packets: stats.rx_packets,
                    tx_packets: stats.tx_packets,
                    rx_bytes: stats.rx_bytes,
                    tx_bytes: stats.tx_bytes,
                    rx_errors: stats.rx_errors,
                    tx_errors: stats.tx_errors,
                    rx_dropped: stats.rx_dropped,
                    tx_dropped: stats.tx_dropped,
                };
            }
            _ => {}
        }
    }
    link
}

fn prefix(address: IpAddr, length: u8) -> String {
    IpNet::new(address, length).map(|net| net.to_string()).unwrap_or_default()
}

/// A missing selector matches every address of the family.
fn everything(family: AddressFamily) -> String {
    if family == AddressFamily::Inet { "0.0.0.0/0".to_owned() } else { "::/0".to_owned() }
}

fn rule(message: &RuleMessage, family: AddressFamily) -> DumpedRule {
    let header = &message.header;
    let mut rule = DumpedRule {
        table: header.table.into(),
        source: everything(family),
        destination: everything(family),
        action: format!("{:?}", header.action),
        ..DumpedRule::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::FwMark(mark) => rule.mark = *mark,
            RuleAttribute::Source(address) => rule.source = prefix(*address, header.src_len),
            RuleAttribute::Destination(address) => rule.destination = prefix(*address, header.dst_len),
            RuleAttribute::Iifname(name) => rule.input_interface.clone_from(name),
            RuleAttribute::Goto(priority) => rule.action = format!("Goto {priority}"),
            _ => {}
        }
    }
    rule
}

fn route(message: &RouteMessage, family: AddressFamily) -> DumpedRoute {
    let header = &message.header;
    let mut route = DumpedRoute {
        table: table(message),
        destination: "default".to_owned(),
        action: format!("{:?}", header.kind),
        ..DumpedRoute::default()
    };
    if header.destination_prefix_length != 0 {
        route.destination = everything(family);
    }
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                route.destination = route_address(to)
                    .map(|to| prefix(to, header.destination_prefix_length))
                    .unwrap_or_default();
            }
            RouteAttribute::Oif(index) => route.interface_index = *index,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::PrefSource(from) => route.source = text(from),
            RouteAttribute::Gateway(via) => route.gateway = text(via),
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    route.interface_index = hop.interface_index;
                    route.nexthops.extend(hop.attributes.iter().filter_map(|attribute| match attribute {
                        RouteAttribute::Gateway(via) => Some(text(via)),
                        _ => None,
                    }));
                }
            }
            _ => {}
        }
    }
    route
}

fn text(via: &RouteAddress) -> String {
    route_address(via).map(|address| address.to_string()).unwrap_or_default()
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Option<DumpedNeighbour> {
    let state = state(message.header.state);
    let mut entry =
        DumpedNeighbour { state, interface_index: message.header.ifindex, ..DumpedNeighbour::default() };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => entry.ip = ip.to_string(),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => entry.ip = ip.to_string(),
            NeighbourAttribute::LinkLayerAddress(bytes) => entry.mac = mac(bytes),
            _ => {}
        }
    }
    (!entry.ip.is_empty()).then_some(entry)
}

/// The name of a neighbour's state in Meridio's export.
fn state(state: NeighbourState) -> String {
    let name = match state {
        NeighbourState::Incomplete => "Incomplete",
        NeighbourState::Reachable => "Reachable",
        NeighbourState::Stale => "Stale",
        NeighbourState::Delay => "Delay",
        NeighbourState::Probe => "Probe",
        NeighbourState::Failed => "Failed",
        NeighbourState::Noarp => "No ARP",
        NeighbourState::Permanent => "Permanent",
        NeighbourState::None => "None",
        other => return format!("{:#x}", u16::from(other)),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_of_the_format_or_a_number() {
        assert_eq!(state(NeighbourState::Noarp), "No ARP");
        assert_eq!(state(NeighbourState::Other(0x300)), "0x300");
    }
}
