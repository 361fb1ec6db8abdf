// SPDX-License-Identifier: Apache-2.0

//! Links: bridges, veth pairs, and their ports.

use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::{
        RouteNetlinkMessage::{DelLink, GetLink, NewLink},
        link::{
            BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
        },
    },
};

use super::dialogue::{ADD, change, dump};

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alias: Option<String>,
    pub mac: [u8; 6],
    /// Name of the bridge of which it is a port.
    pub controller: Option<String>,
    pub up: bool,
}

/// All links, by index.
pub fn links() -> Vec<Link> {
    let (links, controllers): (Vec<_>, Vec<_>) = messages().iter().map(seen).unzip();
    let with = links.iter().zip(controllers).map(|(link, controller)| {
        let controller = controller.map(|index| name_in(&links, index));
        Link { controller, ..link.clone() }
    });
    with.collect()
}

fn seen(message: &LinkMessage) -> (Link, Option<u32>) {
    let up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Link { index: message.header.index, up, ..Link::default() };
    let mut controller = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Address(mac) => link.mac = mac[..].try_into().unwrap(),
            LinkAttribute::Controller(index) => controller = Some(*index),
            _ => {}
        }
    }
    (link, controller)
}

pub(super) fn messages() -> Vec<LinkMessage> {
    dump(&GetLink(LinkMessage::default()))
        .into_iter()
        .map(|answer| match answer {
            NewLink(link) => link,
            other => panic!("not a link: {other:?}"),
        })
        .collect()
}

/// The link with a name.
pub fn link(name: &str) -> Link {
    let found = links().into_iter().find(|link| link.name == name);
    found.unwrap_or_else(|| panic!("no link {name}"))
}

/// Index of the link with a name.
pub(super) fn index(name: &str) -> u32 {
    link(name).index
}

/// Name of the link with an index; the index itself if the link is gone.
pub(super) fn name(index: u32) -> String {
    name_in(&links(), index)
}

fn name_in(links: &[Link], index: u32) -> String {
    let found = links.iter().find(|link| link.index == index);
    found.map_or_else(|| format!("link {index}"), |link| link.name.clone())
}

/// Creates a bridge, down.
pub fn add_bridge(name: &str, mac: [u8; 6]) {
    change(&NewLink(LinkBridge::new(name).address(mac.into()).build()), ADD);
}

/// Switches multicast snooping and the spanning tree protocol of a bridge on.
pub fn snoop(name: &str) {
    let settings = bridge(name).mcast_snooping(true).stp_state(BridgeStpState::KernelStp);
    change(&NewLink(settings.build()), 0);
}

/// Makes a bridge query for multicast listeners, once and soon, with answers within 100 ms.
pub fn query(name: &str) {
    let settings = bridge(name).mcast_startup_query_count(1).mcast_query_response_interval(10);
    change(&NewLink(settings.mcast_querier(true).build()), 0);
}

fn bridge(name: &str) -> LinkMessageBuilder<LinkBridge> {
    LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge).index(index(name))
}

/// Whether multicast snooping or the spanning tree protocol of a bridge is on.
pub fn snooping(name: &str) -> bool {
    let index = index(name);
    let bridge = messages().into_iter().find(|message| message.header.index == index).unwrap();
    let infos = bridge.attributes.into_iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let data = infos.flatten().filter_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
        _ => None,
    });
    data.flatten().any(|setting| match setting {
        InfoBridge::MulticastSnooping(on) => on,
        InfoBridge::StpState(state) => state != BridgeStpState::Disabled,
        _ => false,
    })
}

/// Makes a link a port of a bridge, and sets it up.
pub fn set_port(name: &str, bridge: &str) {
    let bridge = index(bridge);
    change_link(name, |link| link.controller(bridge).up());
}

/// Creates a pair of links, both down.
pub fn add_veth(name: &str, peer: &str) {
    change(&NewLink(LinkVeth::new(name, peer).build()), ADD);
}

/// Changes a link: `up()`, `alias(…)`, `controller(…)`.
pub fn change_link(
    name: &str,
    to: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) {
    change(&NewLink(to(LinkUnspec::new_with_index(index(name))).build()), 0);
}

/// Removes a link. Its peer goes with it.
pub fn delete_link(name: &str) {
    change(&DelLink(LinkUnspec::new_with_index(index(name)).build()), 0);
}
