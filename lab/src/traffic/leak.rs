// SPDX-License-Identifier: Apache-2.0
//! Counts packets whose source is a VIP, at a place where none may ever arrive.
//!
//! The counter is a packet socket at the far end of the proxy's primary link. It receives
//! everything that arrives there, regardless of the destination. A count of 0 proves something only
//! if the counter works: send it one packet first.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ipnet::IpNet;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::network::netns::Netns;

/// `ETH_P_ALL` in network byte order: packets of every protocol.
const EVERY_PROTOCOL: u32 = (0x0003_u16).to_be() as u32;

/// A running count.
pub struct LeakCounter {
    count: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl LeakCounter {
    /// Counts in a namespace from now on.
    ///
    /// # Errors
    /// Packet sockets need the capability NET_RAW.
    pub fn start(netns: &Netns, vips: Vec<IpNet>) -> io::Result<Self> {
        let socket = netns.run(|| {
            let protocol = NonZeroU32::new(EVERY_PROTOCOL).map(Protocol::from_raw);
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, protocol)?;
            // tokio has no type for packet sockets, and receiving is the same call for all.
            UdpSocket::from_std(socket.into())
        })?;
        let count = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(follow(socket, vips, Arc::clone(&count)));
        Ok(Self { count, _task: AbortOnDropHandle::new(task) })
    }

    /// Number of packets with a VIP as source so far.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

async fn follow(socket: UdpSocket, vips: Vec<IpNet>, count: Arc<AtomicU64>) {
    let mut packet = [0; 64];
    loop {
        let received = socket.recv(&mut packet).await;
        // ENETDOWN of a link that goes does not end the count on the others.
        let Ok(length) = received else { continue };
        let from = source(&packet[..length]);
        if from.is_some_and(|from| vips.iter().any(|vip| vip.contains(&from))) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// Source address of an IP packet.
fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?).into()),
        6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_packet_is_where_its_version_has_it() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[12..16].copy_from_slice(&[20, 0, 0, 1]);
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        v6[8..24].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        let arp = [0, 1, 8, 0, 6, 4, 0, 1];
        let table: [(&[u8], Option<&str>); 5] = [
            (&v4, Some("20.0.0.1")),
            (&v6, Some("2001:db8::1")),
            (&arp, None),
            (&v4[..15], None),
            (&[], None),
        ];
        for (packet, expected) in table {
            assert_eq!(source(packet), expected.map(|text| text.parse().unwrap()), "{packet:?}");
        }
    }
}
