// SPDX-License-Identifier: Apache-2.0

//! Notice that something that may be ours has changed in the kernel.
//!
//! Events are not believed, only counted: any that may concern us leads to a full dump, as does a socket that has overflowed
//! (`ENOBUFS`). They wait in the socket's buffer, whose size bounds them.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use rtnetlink::{
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{AddressFamily, RouteNetlinkMessage},
    sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};

use super::parse;
use crate::kernel::Ours;

/// Multicast groups: links, and addresses, routes and rules of both families.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// Buffer asked for; the kernel grants what `net.core.rmem_max` allows.
const BUFFER: u32 = 1 << 20;
/// Most messages that are read before the caller hears of them.
const BATCH: usize = 4096;
/// Pause before a fresh socket is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A socket that receives events.
pub(super) struct Watch {
    socket: TokioSocket,
    broken: bool,
    /// An event that may concern us has been heard and not been reported.
    pending: bool,
    /// Something but a rule has changed since the last dump, or may have.
    overtaken: bool,
    /// How often a rule has changed, or may have.
    rules: u64,
}

impl Watch {
    pub(super) fn open() -> io::Result<Self> {
        Self::with_buffer(BUFFER)
    }

    fn with_buffer(bytes: u32) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (group - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        socket.socket_ref().set_rx_buf_sz(bytes)?;
        Ok(Self { socket, broken: false, pending: false, overtaken: false, rules: 0 })
    }

    /// Drop what has been heard so far: a dump that begins now shows it.
    pub(super) fn forget(&mut self, ours: &Ours, bridge: Option<u32>) {
        self.hear(ours, bridge);
        (self.pending, self.overtaken) = (false, false);
    }

    /// Whether something but a rule has changed since [`forget`](Self::forget).
    pub(super) fn overtaken(&mut self, ours: &Ours, bridge: Option<u32>) -> bool {
        self.hear(ours, bridge);
        self.overtaken
    }

    /// How often a rule has changed so far, or may have.
    pub(super) fn rule_changes(&mut self, ours: &Ours, bridge: Option<u32>) -> u64 {
        self.hear(ours, bridge);
        self.rules
    }

    /// Wait for an event that may concern us, or for the loss of some. Takes all that are there.
    pub(super) async fn changed(&mut self, ours: &Ours, bridge: Option<u32>) {
        if self.broken {
            match Self::open() {
                Ok(fresh) => *self = fresh,
                Err(error) => {
                    tracing::warn!(%error, "no socket for events");
                    tokio::time::sleep(RETRY).await;
                }
            }
            return;
        }
        poll_fn(|cx| {
            for _ in 0..BATCH {
                match self.socket.poll_recv_from_full(cx) {
                    Poll::Ready(Ok((datagram, _))) => self.take(&datagram, ours, bridge),
                    Poll::Ready(Err(error)) => self.lost(&error),
                    Poll::Pending if self.pending => break,
                    Poll::Pending => return Poll::Pending,
                }
                if self.broken {
                    break;
                }
            }
            if std::mem::take(&mut self.pending) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Take what has arrived so far, without waiting.
    fn hear(&mut self, ours: &Ours, bridge: Option<u32>) {
        for _ in 0..BATCH {
            if self.broken {
                return;
            }
            match self.socket.socket_ref().recv_from_full() {
                Ok((datagram, _)) => self.take(&datagram, ours, bridge),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.lost(&error),
            }
        }
        self.rules += 1; // there may be more
    }

    fn take(&mut self, datagram: &[u8], ours: &Ours, bridge: Option<u32>) {
        let heard = Heard::of(datagram, ours, bridge);
        self.pending |= heard.concerns;
        self.overtaken |= heard.overtakes;
        self.rules += u64::from(heard.rule);
    }

    /// Note an error of the socket.
    fn lost(&mut self, error: &io::Error) {
        const ENOBUFS: i32 = 105;
        self.broken = error.raw_os_error() != Some(ENOBUFS);
        (self.pending, self.overtaken) = (true, true);
        self.rules += 1;
        tracing::warn!(%error, "events were lost: the kernel is read again");
    }
}

/// What a datagram contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// An event that may concern us.
    concerns: bool,
    /// Such an event of something but a rule.
    overtakes: bool,
    /// An event of a rule.
    rule: bool,
}

impl Heard {
    fn of(datagram: &[u8], ours: &Ours, bridge: Option<u32>) -> Self {
        const UNKNOWN: Heard = Heard { concerns: true, overtakes: true, rule: true };
        let mut heard = Self::default();
        let mut rest = datagram;
        while !rest.is_empty() {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
                return UNKNOWN;
            };
            let length = (message.header.length as usize).next_multiple_of(4);
            let NetlinkPayload::InnerMessage(event) = message.payload else { return UNKNOWN };
            let concerns = concerning(&event, ours, bridge);
            let rule = is_rule(&event);
            heard.concerns |= concerns;
            heard.overtakes |= concerns && !rule;
            heard.rule |= rule;
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
        heard
    }
}

fn is_rule(event: &RouteNetlinkMessage) -> bool {
    matches!(event, RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_))
}

/// Whether an event may concern us. Messages of family `AF_BRIDGE` do not: taking a port out of a bridge sends a `DELLINK` of that
/// family while the link lives on, and a `NEWLINK` of no family beside it.
fn concerning(event: &RouteNetlinkMessage, ours: &Ours, bridge: Option<u32>) -> bool {
    use RouteNetlinkMessage::{
        DelAddress, DelLink, DelRoute, DelRule, NewAddress, NewLink, NewRoute, NewRule,
    };
    match event {
        NewLink(link) | DelLink(link) => link.header.interface_family == AddressFamily::Unspec,
        NewAddress(address) | DelAddress(address) => {
            bridge.is_none_or(|bridge| address.header.index == bridge)
        }
        NewRoute(route) | DelRoute(route) => parse::table(route) == ours.table,
        NewRule(_) | DelRule(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
