// SPDX-License-Identifier: Apache-2.0

//! Parses netlink messages of the kernel.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage, AddressScope},
    link::{
        AfSpecInet6, AfSpecUnspec, BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage,
    },
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use crate::{
    api::{Family, InterfaceName},
    kernel::{Action, BridgeSettings, Hop, Link, LinkKind, Mac, Ours, Route, RouteTarget, Rule},
};

/// A link and its name; `None` if NSM could not use that name.
pub(super) fn link(message: &LinkMessage) -> Option<(InterfaceName, Link)> {
    let mut mac = None;
    let mut name = None;
    let mut alias = None;
    let mut controller = None;
    let loopback = message.header.flags.contains(LinkFlags::Loopback);
    let mut kind = if loopback { LinkKind::Primary } else { LinkKind::Other };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text.parse().ok(),
            LinkAttribute::Address(bytes) => mac = Mac::of(bytes),
            LinkAttribute::IfAlias(text) => alias = Some(text.clone()),
            LinkAttribute::Controller(index) => controller = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Bridge)) => {
                kind = LinkKind::Bridge;
            }
            _ => {}
        }
    }
    let has = |flag| message.header.flags.contains(flag);
    let up = has(LinkFlags::Up);
    let running = has(LinkFlags::Running);
    Some((name?, Link { index: message.header.index, mac, alias, up, running, controller, kind }))
}

/// The settings of a bridge, by its link.
pub(super) fn bridge_settings(message: &LinkMessage) -> BridgeSettings {
    let mut settings = BridgeSettings::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::LinkInfo(infos) => {
                let data = infos.iter().filter_map(|info| match info {
                    LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
                    _ => None,
                });
                for setting in data.flatten() {
                    match setting {
                        InfoBridge::MulticastSnooping(on) => settings.multicast_snooping = *on,
                        InfoBridge::StpState(state) => {
                            settings.spanning_tree = *state != BridgeStpState::Disabled;
                        }
                        _ => {}
                    }
                }
            }
            LinkAttribute::AfSpecUnspec(families) => {
                let v6 = families.iter().filter_map(|family| match family {
                    AfSpecUnspec::Inet6(settings) => Some(settings),
                    _ => None,
                });
                settings.v6_disabled = v6
                    .flatten()
                    .any(|setting| matches!(setting, AfSpecInet6::DevConf(all) if all.disable_ipv6 != 0));
            }
            _ => {}
        }
    }
    settings
}

/// An address of a link; `None` if it belongs to another link, or has scope link.
pub(super) fn address(message: &AddressMessage, link: u32) -> Option<IpNet> {
    if message.header.index != link || message.header.scope == AddressScope::Link {
        return None;
    }
    net(message)
}

/// The address of an address message, with the length of its subnet.
pub(super) fn net(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let remote = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(remote)?, message.header.prefix_len).ok()
}

/// A rule; `None` if it selects packets by anything but source and input interface.
pub(super) fn rule(message: &RuleMessage, ours: &Ours) -> Option<Rule> {
    let header = &message.header;
    let family = family(header.family)?;
    let mut priority = 0;
    let mut source = None;
    let mut input = None;
    let mut goto = 0;
    let mut protocol = 0;
    let mut table = u32::from(header.table);
    let mut unknown = header.dst_len != 0 || header.tos != 0 || header.flags.contains(RuleFlags::Invert);
    let mut future = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(value) => priority = *value,
            RuleAttribute::Source(address) => source = Some(*address),
            RuleAttribute::Iifname(name) => input = Some(name),
            RuleAttribute::Goto(target) => goto = *target,
            RuleAttribute::Table(value) => table = *value,
            RuleAttribute::Protocol(value) => protocol = u8::from(*value),
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            RuleAttribute::Other(_) => future = true,
            _ => unknown = true,
        }
    }
    let action = match header.action {
        RuleAction::ToTable => Action::Lookup(table),
        RuleAction::Goto => Action::Goto(goto),
        RuleAction::Blackhole => Action::Blackhole,
        _ => return None,
    };
    // On a rule that this program made, an attribute unknown to this version selects no packets.
    if unknown || (future && protocol != ours.protocol) {
        return None;
    }
    let source = source.map(|address| IpNet::new(address, header.src_len)).transpose().ok()?;
    let input = input.map(|name| name.parse()).transpose().ok()?;
    Some(Rule { priority, family, source, input, action, protocol })
}

/// A default route, and its output devices.
pub(super) struct DefaultRoute {
    pub(super) route: Route,
    pub(super) devices: BTreeSet<u32>,
}

/// A default route of a table.
pub(super) fn default_route(message: &RouteMessage, wanted: u32) -> Option<DefaultRoute> {
    let header = &message.header;
    if header.destination_prefix_length != 0 || table(message) != wanted {
        return None;
    }
    let mut metric = 0;
    let mut nexthops = vec![nexthop(&message.attributes, None)];
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::MultiPath(hops) => {
                nexthops =
                    hops.iter().map(|hop| nexthop(&hop.attributes, Some(hop.interface_index))).collect();
            }
            _ => {}
        }
    }
    let devices = nexthops.iter().filter_map(|(_, device)| *device).collect();
    let hops: Option<BTreeSet<Hop>> =
        nexthops.into_iter().map(|(via, device)| Some(Hop { via: via?, device: device? })).collect();
    let target = match (header.kind, hops) {
        (RouteType::BlackHole, _) => RouteTarget::Blackhole,
        (RouteType::Unicast, Some(hops)) => RouteTarget::Hops(hops),
        _ => RouteTarget::Foreign,
    };
    let family = family(header.address_family)?;
    let protocol = u8::from(header.protocol);
    Some(DefaultRoute { route: Route { family, metric, protocol, target }, devices })
}

/// Neighbour and device of a next hop: one hop of several, or the only one, which the kernel writes
/// into the route itself.
fn nexthop(attributes: &[RouteAttribute], device: Option<u32>) -> (Option<IpAddr>, Option<u32>) {
    let mut via = None;
    let mut device = device;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => via = route_address(gateway),
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    (via, device)
}

/// An IP address in a route.
pub(super) fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The table of a route: the attribute if present, because the header has room for 8 bits only.
pub(super) fn table(message: &RouteMessage) -> u32 {
    let attribute = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or(u32::from(message.header.table))
}

fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}
