// SPDX-License-Identifier: Apache-2.0

//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    RouteNetlinkMessage::{DelAddress, GetAddress, NewAddress},
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
};

use super::{
    dialogue::{ADD, change, dump},
    links::index,
};

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub net: IpNet,
    pub scope: AddressScope,
    pub flags: AddressFlags,
}

/// The addresses of a link, IPv4 first, in the kernel's order.
pub fn addresses(link: &str) -> Vec<Address> {
    let link = index(link);
    messages().iter().filter(|message| message.header.index == link).map(seen).collect()
}

fn seen(message: &AddressMessage) -> Address {
    let mut local = None;
    let mut address = None;
    let mut flags = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(there) => local = Some(*there),
            AddressAttribute::Address(there) => address = Some(*there),
            AddressAttribute::Flags(there) => flags = Some(*there),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address).unwrap(), message.header.prefix_len).unwrap();
    Address { net, scope: message.header.scope, flags: flags.unwrap() }
}

pub(super) fn messages() -> Vec<AddressMessage> {
    dump(&GetAddress(AddressMessage::default()))
        .into_iter()
        .map(|answer| match answer {
            NewAddress(address) => address,
            other => panic!("not an address: {other:?}"),
        })
        .collect()
}

/// Adds an address that is usable at once.
pub fn add_address(link: &str, net: &str) {
    change(&NewAddress(message(link, net.parse().unwrap())), ADD);
}

/// Removes the addresses of global scope from a link.
pub fn flush_addresses(link: &str) {
    for address in addresses(link).iter().filter(|address| address.scope == AddressScope::Universe) {
        change(&DelAddress(message(link, address.net)), 0);
    }
}

fn message(link: &str, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index(link);
    message.header.prefix_len = net.prefix_len();
    message.header.family = match net.addr() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
    if net.addr().is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message
}
