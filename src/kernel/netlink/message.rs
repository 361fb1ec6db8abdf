// SPDX-License-Identifier: Apache-2.0

//! Builds netlink requests: dumps, and the message of each change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    RouteNextHopBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressHeaderFlags, AddressMessage},
        link::{BridgeStpState, InfoKind, LinkAttribute, LinkExtentMask, LinkMessage},
        neighbour::{NeighbourAttribute, NeighbourMessage},
        route::{RouteAttribute, RouteMessage, RouteNextHop, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::address_family;
use crate::{
    api::Family,
    kernel::{Action, Op, Ours, Rule, observed::metric},
};

/// Table main.
pub(super) const MAIN: u32 = 254;

/// All links, without their counters.
pub(super) fn get_links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// A link by its index, without its counters.
pub(super) fn get_link(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// Addresses of a link.
pub(super) fn get_addresses(link: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    RouteNetlinkMessage::GetAddress(message)
}

/// Rules of a family.
pub(super) fn get_rules(family: Family) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(family);
    RouteNetlinkMessage::GetRule(message)
}

/// Routes of a table. The protocol and type that the builder sets would act as filters on a strict
/// connection.
pub(super) fn get_routes(family: Family, table: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetRoute(bare_route(family, table))
}

/// The message of a change, with its flags. `bridge` is the index of the bridge.
pub(super) fn of(ours: &Ours, bridge: u32, op: &Op) -> (RouteNetlinkMessage, u16) {
    const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
    const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
    use RouteNetlinkMessage::{
        DelAddress, DelLink, DelNeighbour, DelRoute, DelRule, NewAddress, NewLink, NewRoute, NewRule,
    };
    match op {
        Op::AddRule(it) => (NewRule(rule(it)), ADD),
        Op::DeleteRule(it) => (DelRule(rule(it)), 0),
        Op::CreateBridge(mac) => {
            let bridge = LinkBridge::new(ours.bridge.as_str()).address(mac.0.to_vec());
            (NewLink(bridge.mcast_snooping(false).build()), ADD)
        }
        Op::RaiseBridge => (NewLink(LinkUnspec::new_with_index(bridge).up().build()), 0),
        Op::ConfigureBridge => (NewLink(configured(bridge)), 0),
        Op::DeleteBridge => (DelLink(LinkUnspec::new_with_index(bridge).build()), 0),
        Op::AddAddress(net) => (NewAddress(address(net, bridge)), ADD),
        Op::DeleteAddress(net) => (DelAddress(address(net, bridge)), 0),
        Op::SetNextHops(family, hops) => {
            (NewRoute(next_hops(ours, *family, hops.iter().map(|hop| next_hop(*hop, bridge)))), REPLACE)
        }
        Op::ForgetNeighbour(address) => (DelNeighbour(neighbour(*address, bridge)), 0),
        Op::SetBlackhole(family) => (NewRoute(blackhole(ours, *family)), REPLACE),
        Op::DeleteRoute(family, metric) => {
            let mut message = bare_route(*family, ours.table);
            message.header.scope = RouteScope::NoWhere;
            match metric {
                // For IPv4, metric 0 matches any route. The type distinguishes the working route
                // from the blackhole.
                0 => message.header.kind = RouteType::Unicast,
                metric => message.attributes.push(RouteAttribute::Priority(*metric)),
            }
            (DelRoute(message), 0)
        }
        Op::Attach(_, index) => (NewLink(LinkUnspec::new_with_index(*index).controller(bridge).build()), 0),
        Op::Detach(_, index) => (NewLink(LinkUnspec::new_with_index(*index).nocontroller().build()), 0),
    }
}

/// Switches multicast snooping and the spanning tree protocol of a bridge off, by its index.
fn configured(bridge: u32) -> LinkMessage {
    let bridge = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge).index(bridge);
    bridge.mcast_snooping(false).stp_state(BridgeStpState::Disabled).build()
}

/// A rule. The kernel accepts a rule without an action, but every lookup that matches it then
/// fails.
fn rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    message.header.src_len = rule.source.map_or(0, |net| net.prefix_len());
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)));
    attributes.extend(rule.source.map(|net| RuleAttribute::Source(net.network())));
    attributes.extend(rule.input.as_ref().map(|link| RuleAttribute::Iifname(link.to_string())));
    message.header.action = match rule.action {
        Action::Lookup(table) => {
            attributes.push(RuleAttribute::Table(table));
            RuleAction::ToTable
        }
        Action::Goto(target) => {
            attributes.push(RuleAttribute::Goto(target));
            RuleAction::Goto
        }
        Action::Blackhole => RuleAction::Blackhole,
    };
    message
}

/// An address. Duplicate address detection would keep an IPv6 address unusable for a second, or
/// permanently if the bridge of an earlier process still answers for it.
fn address(net: &IpNet, link: u32) -> AddressMessage {
    let length = net.prefix_len();
    match net.addr() {
        IpAddr::V4(address) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(link).address(address, length).build()
        }
        IpAddr::V6(address) => {
            let mut message =
                AddressMessageBuilder::<Ipv6Addr>::new().index(link).address(address, length).build();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
        }
    }
}

/// The neighbour of an address on a link.
pub(super) fn neighbour(address: IpAddr, link: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = address_family(Family::of(address));
    message.header.ifindex = link;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

/// The route over some next hops. Its metric is the kernel's default for the family; an IPv4
/// message must leave it out.
fn next_hops(ours: &Ours, family: Family, hops: impl Iterator<Item = RouteNextHop>) -> RouteMessage {
    let mut message = route(ours, family);
    message.attributes.push(RouteAttribute::MultiPath(hops.collect()));
    if family == Family::V6 {
        message.attributes.push(RouteAttribute::Priority(metric::working(family)));
    }
    message
}

/// A next hop with its device. Without a device the kernel may choose a port that has an address in
/// the same subnet.
fn next_hop(via: IpAddr, device: u32) -> RouteNextHop {
    let builder = match Family::of(via) {
        Family::V4 => RouteNextHopBuilder::new_ipv4(),
        Family::V6 => RouteNextHopBuilder::new_ipv6(),
    };
    let mut hop = builder.interface(device).build();
    hop.attributes.push(RouteAttribute::Gateway(via.into()));
    hop
}

fn blackhole(ours: &Ours, family: Family) -> RouteMessage {
    let mut message = route(ours, family);
    message.header.kind = RouteType::BlackHole;
    message.attributes.push(RouteAttribute::Priority(metric::BLACKHOLE));
    message
}

fn route(ours: &Ours, family: Family) -> RouteMessage {
    let mut message = bare_route(family, ours.table);
    message.header.protocol = RouteProtocol::from(ours.protocol);
    message.header.kind = RouteType::Unicast;
    message
}

/// A default route of a table, without any other attribute that the kernel would use as a key.
fn bare_route(family: Family, table: u32) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<IpAddr>::new();
    builder.get_mut().header.address_family = address_family(family);
    builder.table_id(table).protocol(RouteProtocol::Unspec).kind(RouteType::Unspec).build()
}
