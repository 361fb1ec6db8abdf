// SPDX-License-Identifier: Apache-2.0

//! Receives the events of the kernel.

use std::{io, time::Duration};

use rtnetlink::{
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Multicast groups: links, and addresses, routes and rules of both families.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// Receives the events of every change of the namespace.
pub struct Announcements(Socket);

impl Announcements {
    pub fn open() -> Self {
        let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket
            .bind(&SocketAddr::new(0, GROUPS.iter().fold(0, |groups, group| groups | 1 << (group - 1))))
            .unwrap();
        socket.set_non_blocking(true).unwrap();
        Self(socket)
    }

    /// The events since the last call.
    pub fn heard(&self) -> Vec<RouteNetlinkMessage> {
        let mut heard = Vec::new();
        loop {
            match self.0.recv_from_full() {
                Ok((datagram, _)) => heard.extend(event(&datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("the witness missed something: {error}"),
            }
        }
    }

    /// Waits until links have stopped reporting that they settle (carrier and operational state
    /// follow a change by a second).
    pub async fn quiet(&self) {
        let mut silent = 0;
        while silent < 75 {
            silent = if self.heard().is_empty() { silent + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A datagram of a multicast group has one event.
fn event(datagram: &[u8]) -> Option<RouteNetlinkMessage> {
    match NetlinkMessage::deserialize(datagram).unwrap().payload {
        NetlinkPayload::InnerMessage(event) => Some(event),
        _ => None,
    }
}
