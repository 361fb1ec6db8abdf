// SPDX-License-Identifier: Apache-2.0

//! Reads the counters of a bridge's ports, on a separate socket.
//!
//! Two dumps, of links and of addresses, for any number of ports. Only the attributes that are
//! needed are parsed: a link has some 1.5 KiB of others. The kernel fills a dump while it is being
//! received, so nothing here waits.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use rtnetlink::{
    packet_core::{
        NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NlasIterator,
    },
    packet_route::{
        RouteNetlinkMessage::{self, GetAddress, GetLink},
        address::AddressMessage,
        link::LinkMessage,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::dump::Statistics;
use crate::{
    api::InterfaceName,
    kernel::{Mac, Refusal},
};

/// Maximum number of addresses of a port.
const MAX_ADDRESSES: usize = 16;
/// Length of the header of a message about a link, and of one about an address.
const HEADERS: (usize, usize) = (16, 8);

/// Attributes of a link and of an address, as numbered by the kernel.
mod attribute {
    pub(super) const LINK_ADDRESS: u16 = 1;
    pub(super) const LINK_NAME: u16 = 3;
    pub(super) const LINK_CONTROLLER: u16 = 10;
    pub(super) const LINK_STATS64: u16 = 23;
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
}

/// A port of a bridge, with the counters of its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the link.
    pub name: InterfaceName,
    /// Its MAC address, if it has one.
    pub mac: Option<Mac>,
    /// Its addresses, at most 16, without link-local ones.
    pub addresses: Vec<IpNet>,
    /// Its counters.
    pub statistics: Statistics,
}

/// A socket for the counters of the network namespace in which it was opened.
pub struct Counters {
    socket: Socket,
    sequence: u32,
}

/// A link of a dump.
struct Link {
    name: InterfaceName,
    mac: Option<Mac>,
    controller: Option<u32>,
    statistics: Statistics,
}

impl Counters {
    /// Opens the socket.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The ports of a bridge, in the order of their indices; none if there is no bridge.
    ///
    /// # Errors
    /// The kernel's answer, or that of the socket call.
    pub fn ports(&mut self, bridge: &InterfaceName) -> Result<Vec<Port>, Refusal> {
        let mut links = BTreeMap::new();
        self.dump(GetLink(LinkMessage::default()), |payload| links.extend(link(payload)))?;
        let Some(bridge) = links.iter().find(|(_, link)| link.name == *bridge).map(|(index, _)| *index)
        else {
            return Ok(Vec::new());
        };
        links.retain(|_, link| link.controller == Some(bridge));
        let mut addresses = BTreeMap::<u32, Vec<IpNet>>::new();
        self.dump(GetAddress(AddressMessage::default()), |payload| {
            if let Some((index, net)) = address(payload).filter(|(index, _)| links.contains_key(index)) {
                let known = addresses.entry(index).or_default();
                known.extend((known.len() < MAX_ADDRESSES).then_some(net));
            }
        })?;
        let ports = links.into_iter().map(|(index, link)| Port {
            name: link.name,
            mac: link.mac,
            addresses: addresses.remove(&index).unwrap_or_default(),
            statistics: link.statistics,
        });
        Ok(ports.collect())
    }

    /// Dumps, and hands each message's payload on. A dump that a change interrupts is taken as it
    /// is: the next one is whole.
    fn dump(&mut self, request: RouteNetlinkMessage, mut each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        self.send(request)?;
        loop {
            let datagram = match self.socket.recv_from_full() {
                Ok((datagram, _)) => datagram,
                Err(error) => return Err(Refusal::broken(error)),
            };
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest).map_err(Refusal::broken)?;
                let length = (message.length() as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if message.sequence_number() != self.sequence {
                    continue; // of a dump that failed earlier
                }
                match message.message_type() {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return Err(refusal(message.payload())),
                    _ => each(message.payload()),
                }
            }
        }
    }

    fn send(&mut self, request: RouteNetlinkMessage) -> Result<(), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map(drop).map_err(Refusal::broken)
    }
}

/// The error of an answer that refuses.
fn refusal(payload: &[u8]) -> Refusal {
    match first(payload, 0) {
        Some(code) => Refusal::errno(i32::from_ne_bytes(code).saturating_abs()),
        None => Refusal::broken("an error without a number"),
    }
}

/// The bytes of a number at a place.
fn first<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Each attribute behind a header, with its number.
fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let payload = payload.get(header..).unwrap_or_default();
    NlasIterator::new(payload).map_while(Result::ok).filter_map(|attribute| {
        let kind = attribute.kind();
        Some((kind, attribute.into_inner().get(4..4 + attribute.value_length())?))
    })
}

/// A link with its index; `None` if NSM could not use its name.
fn link(payload: &[u8]) -> Option<(u32, Link)> {
    let index = u32::from_ne_bytes(first(payload, 4)?);
    let mut name = None;
    let mut mac = None;
    let mut controller = None;
    let mut statistics = Statistics::default();
    for (kind, value) in attributes(payload, HEADERS.0) {
        match kind {
            attribute::LINK_NAME => {
                let text = value.strip_suffix(&[0]).unwrap_or(value);
                name = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            }
            attribute::LINK_ADDRESS => mac = Mac::of(value),
            attribute::LINK_CONTROLLER => controller = first(value, 0).map(u32::from_ne_bytes),
            attribute::LINK_STATS64 => statistics = counters(value),
            _ => {}
        }
    }
    Some((index, Link { name: name?, mac, controller, statistics }))
}

/// The first eight numbers of the kernel's `rtnl_link_stats64`.
fn counters(value: &[u8]) -> Statistics {
    let number = |at: usize| first(value, at * 8).map_or(0, u64::from_ne_bytes);
    Statistics {
        rx_packets: number(0),
        tx_packets: number(1),
        rx_bytes: number(2),
        tx_bytes: number(3),
        rx_errors: number(4),
        tx_errors: number(5),
        rx_dropped: number(6),
        tx_dropped: number(7),
    }
}

/// An address with the index of its link; `None` if it is link-local. The local end of a
/// point-to-point address counts.
fn address(payload: &[u8]) -> Option<(u32, IpNet)> {
    let length = *payload.get(1)?;
    let index = u32::from_ne_bytes(first(payload, 4)?);
    let mut found = None;
    for (kind, value) in attributes(payload, HEADERS.1) {
        let address = match value.len() {
            4 => first::<4>(value, 0).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
            16 => first::<16>(value, 0).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
            _ => None,
        };
        match kind {
            attribute::LOCAL => found = address,
            attribute::ADDRESS => found = found.or(address),
            _ => {}
        }
    }
    let address = found.filter(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    })?;
    Some((index, IpNet::new(address, length).ok()?))
}
