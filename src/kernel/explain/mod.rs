// SPDX-License-Identifier: Apache-2.0

//! Walks a packet through the kernel: from a VIP over rules, routes, next hops, neighbours, the
//! forwarding database and ports; or to a VIP or to a peer over the bridge.
//!
//! [`explain`] is a pure function of a [`View`], which [`view`](super::view) reads. Rules that
//! select packets by anything but their source and their input interface are left out.

mod from;
mod step;
mod to;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use serde::Serialize;

pub(crate) use self::step::{Branch, Outcome, Step, StepKind, Walk};
use super::{Mac, Observed, Ours, Statistics, WrongSysctl};
use crate::api::Family;

/// The objects that decide about a packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Links, addresses of the bridge, routes of our table, rules.
    pub(crate) observed: Observed,
    /// Neighbours on the bridge.
    pub(crate) neighbours: BTreeMap<IpAddr, Neighbour>,
    /// The forwarding database of the bridge.
    pub(crate) fdb: BTreeMap<Mac, Forward>,
    /// Counters of links, by index.
    pub(crate) counters: BTreeMap<u32, Statistics>,
    /// Sysctls with wrong values.
    pub(crate) wrong_sysctls: Vec<WrongSysctl>,
}

/// An entry of the neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Its link-layer address, if it has answered.
    pub(crate) mac: Option<Mac>,
    /// The state of the entry, as the kernel names it.
    pub(crate) state: String,
}

/// An entry of the forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Index of the port.
    pub(crate) port: u32,
    /// The address belongs to the bridge or to the port itself.
    pub(crate) local: bool,
}

/// An address in terms of the conduit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// A rule sends packets from it to our table.
    Vip,
    /// An address of the bridge.
    Gateway,
    /// A next hop of our table.
    NextHop,
    /// Another address in a subnet of the bridge.
    InSubnet,
    /// None of these.
    Unknown,
}

/// The walks of packets from and to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    /// The address.
    pub(crate) address: IpAddr,
    /// Its role.
    pub(crate) role: Role,
    /// The walks, each with its outcome.
    pub(crate) walks: Vec<Walk>,
}

impl Explanation {
    /// Whether packets pass in every direction and over every branch.
    pub(crate) fn passes(&self) -> bool {
        self.walks.iter().all(|walk| walk.outcome == Outcome::Passes)
    }
}

/// Parses an address that a VIP or a peer may have.
///
/// # Errors
/// A text that names the address and those that are accepted.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    const ACCEPTED: &str = "the IPv4 or IPv6 address of a VIP, a target or a load balancer, such as 20.0.0.1";
    let address: IpAddr = text.parse().map_err(|_| ACCEPTED.to_owned())?;
    let nobodys = match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 notation"),
        IpAddr::V6(v6) if is_link_local(v6) => Some("a link-local address"),
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ => None,
    };
    nobodys.map_or(Ok(address), |kind| Err(format!("{ACCEPTED}; this is {kind}")))
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Walks packets from and to an address.
pub(crate) fn explain(view: &View, ours: &Ours, address: IpAddr) -> Explanation {
    let role = role(view, ours, address);
    let from = || from::walk(view, ours, address);
    let walks = match role {
        Role::Vip => vec![from(), to::vip(view, ours, address)],
        Role::Gateway | Role::NextHop | Role::InSubnet => vec![to::peer(view, ours, address)],
        Role::Unknown => vec![from(), to::peer(view, ours, address)],
    };
    Explanation { address, role, walks }
}

fn role(view: &View, ours: &Ours, address: IpAddr) -> Role {
    let observed = &view.observed;
    let family = Family::of(address);
    if observed.addresses.iter().any(|net| net.addr() == address) {
        return Role::Gateway;
    }
    if observed.next_hops(family).any(|hop| hop.via == address) {
        return Role::NextHop;
    }
    let mut vips = observed.rules.iter().filter(|rule| rule.routes_vip(ours)).filter_map(|rule| rule.source);
    if vips.any(|vip| vip.contains(&address)) {
        return Role::Vip;
    }
    match observed.addresses.iter().any(|net| net.contains(&address)) {
        true => Role::InSubnet,
        false => Role::Unknown,
    }
}

#[cfg(test)]
mod tests;
