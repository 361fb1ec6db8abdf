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
        Ok(Self { socket, broken: false })
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
            let mut concerned = false;
            for _ in 0..BATCH {
                match self.socket.poll_recv_from_full(cx) {
                    Poll::Ready(Ok((datagram, _))) => concerned |= concerns(&datagram, ours, bridge),
                    Poll::Ready(Err(error)) => {
                        concerned = true;
                        if self.lost(&error) {
                            break;
                        }
                    }
                    Poll::Pending if concerned => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            if concerned {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Note an error of the socket; true if it is of no more use.
    fn lost(&mut self, error: &io::Error) -> bool {
        const ENOBUFS: i32 = 105;
        self.broken = error.raw_os_error() != Some(ENOBUFS);
        tracing::warn!(%error, "events were lost: the kernel is read anew");
        self.broken
    }
}

/// Whether a datagram contains an event that may concern us.
fn concerns(datagram: &[u8], ours: &Ours, bridge: Option<u32>) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else { return true };
        let length = (message.header.length as usize).next_multiple_of(4);
        match message.payload {
            NetlinkPayload::InnerMessage(event) if !concerning(&event, ours, bridge) => {}
            _ => return true,
        }
        rest = rest.get(length.max(16)..).unwrap_or_default();
    }
    false
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
mod tests {
    use rtnetlink::packet_route::{
        address::AddressMessage, link::LinkMessage, route::RouteMessage, rule::RuleMessage,
    };

    use super::*;
    use crate::kernel::tests::{
        netns::in_netns,
        witness::{Rule, add_address, add_rule},
    };

    #[test]
    fn only_what_may_be_ours_concerns_us() {
        use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, DelRule, NewNeighbour};
        let ours = Ours::default();
        let mut from_bridge = LinkMessage::default();
        from_bridge.header.interface_family = AddressFamily::Bridge;
        let (mut address, mut other) = (AddressMessage::default(), AddressMessage::default());
        (address.header.index, other.header.index) = (3, 4);
        let (mut route, mut main) = (RouteMessage::default(), RouteMessage::default());
        (route.header.table, main.header.table) = (1, 254);
        let table = [
            (DelLink(LinkMessage::default()), true),
            (DelLink(from_bridge), false),
            (DelAddress(address), true),
            (DelAddress(other), false),
            (DelRoute(route), true),
            (DelRoute(main), false),
            (DelRule(RuleMessage::default()), true),
            (NewNeighbour(Default::default()), false),
        ];
        for (event, expected) in table {
            assert_eq!(concerning(&event, &ours, Some(3)), expected, "{event:?}");
        }
    }

    #[test]
    fn rubbish_is_looked_into() {
        assert!(concerns(&[1, 2, 3], &Ours::default(), None));
        assert!(!concerns(&[], &Ours::default(), None));
    }

    #[test]
    fn l08_a_socket_that_overflowed_means_a_full_look_and_goes_on_hearing() {
        in_netns(|| async {
            let mut watch = Watch::with_buffer(4096).unwrap();
            add_address("lo", "10.0.0.1/32");
            assert!(!heard(&mut watch).await, "an address of another link is no concern");
            for last in 2..60 {
                add_address("lo", &format!("10.0.0.{last}/32"));
            }
            assert!(heard(&mut watch).await, "58 such events overflow the buffer");
            assert!(!watch.broken && !heard(&mut watch).await);
            add_rule(&Rule::lookup(0, "20.0.0.1/32", 1));
            assert!(heard(&mut watch).await);
        });
    }

    async fn heard(watch: &mut Watch) -> bool {
        let ours = Ours::default();
        let changed = watch.changed(&ours, Some(99));
        tokio::time::timeout(Duration::from_millis(500), changed).await.is_ok()
    }
}
