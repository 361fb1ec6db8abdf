// SPDX-License-Identifier: Apache-2.0

//! Sends announcements by a packet socket, which needs NET_RAW.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};

use super::{Announcements, frame::announcement};
use crate::{
    api::InterfaceName,
    kernel::{Mac, Ours},
};

/// A packet socket that receives nothing.
pub(in crate::kernel) struct PacketSocket {
    socket: OwnedFd,
    /// Socket address of our bridge, as of the last frame.
    bridge: Option<LinkAddr>,
}

impl PacketSocket {
    /// # Errors
    /// That of the socket call: `EPERM` without NET_RAW.
    pub(in crate::kernel) fn open() -> io::Result<Self> {
        // A packet socket without a protocol receives no frame.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        Ok(Self { socket, bridge: None })
    }

    fn send(&mut self, bridge: &InterfaceName, frame: &[u8]) -> io::Result<()> {
        let link = match self.bridge {
            Some(link) => link,
            None => *self.bridge.insert(link(bridge)?),
        };
        sendto(self.socket.as_raw_fd(), frame, &link, MsgFlags::empty())?;
        Ok(())
    }
}

impl Announcements for PacketSocket {
    fn announce(&mut self, ours: &Ours, address: IpAddr, mac: Mac) -> io::Result<()> {
        let frame = announcement(address, mac);
        if self.bridge.is_some() && self.send(&ours.bridge, &frame).is_ok() {
            return Ok(());
        }
        self.bridge = None; // the bridge may have been created again
        self.send(&ours.bridge, &frame)
    }
}

/// The socket address of a link.
fn link(name: &InterfaceName) -> io::Result<LinkAddr> {
    let named = getifaddrs()?.filter(|link| link.interface_name == name.as_str());
    let mut addresses = named.filter_map(|link| link.address?.as_link_addr().copied());
    addresses
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no link {name}")))
}
