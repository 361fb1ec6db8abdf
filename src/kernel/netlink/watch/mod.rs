// SPDX-License-Identifier: Apache-2.0

//! Receives events of objects that may be ours.
//!
//! An event that may concern us leads to a pass, which reads the objects that [`Changes`] names. A
//! socket that has overflowed (`ENOBUFS`) leads to a full dump. Events wait in the socket's buffer,
//! whose size bounds them.

mod changes;

use std::{future::poll_fn, io, mem, task::Poll, time::Duration};

use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

pub(super) use self::changes::{Changes, RuleChange, RuleChanges};
use crate::kernel::Ours;

/// Multicast groups: links, and addresses, routes and rules of both families.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// Buffer size to request; `net.core.rmem_max` limits the size that the kernel grants.
const BUFFER: u32 = 1 << 20;
/// Maximum number of messages read before the caller is notified.
const BATCH: usize = 4096;
/// Pause before a new socket is tried.
const RETRY: Duration = Duration::from_secs(1);

/// A socket that receives events.
pub(super) struct Watch {
    socket: TokioSocket,
    broken: bool,
    /// An event that may concern us has arrived and has not been reported.
    pending: bool,
    /// Something other than a rule has, or may have, changed since the last read.
    overtaken: bool,
    /// How often a rule has, or may have, changed.
    rules: u64,
    /// The changes since the last read.
    changes: Changes,
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
        Ok(Self {
            socket,
            broken: false,
            pending: false,
            overtaken: false,
            rules: 0,
            changes: Changes::everything(),
        })
    }

    /// Takes the changes so far; a read that begins now shows them. While events cannot be
    /// received, everything may have changed.
    pub(super) fn changes(&mut self, ours: &Ours, bridge: Option<u32>) -> Changes {
        self.receive(ours, bridge);
        self.pending = false;
        self.overtaken = false;
        match self.broken {
            true => Changes::everything(),
            false => mem::take(&mut self.changes),
        }
    }

    /// Forgets the rule changes so far; a dump of the rules that begins now shows them.
    pub(super) fn forget_rules(&mut self) {
        self.changes.forget_rules();
    }

    /// Whether something other than a rule has changed since [`changes`](Self::changes).
    pub(super) fn overtaken(&mut self, ours: &Ours, bridge: Option<u32>) -> bool {
        self.receive(ours, bridge);
        self.overtaken
    }

    /// How often a rule has, or may have, changed so far.
    pub(super) fn rule_changes(&mut self, ours: &Ours, bridge: Option<u32>) -> u64 {
        self.receive(ours, bridge);
        self.rules
    }

    /// Waits for an event that may concern us, or for the loss of events. Takes all events that
    /// have arrived.
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
            if mem::take(&mut self.pending) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Takes the events that have arrived, without waiting.
    fn receive(&mut self, ours: &Ours, bridge: Option<u32>) {
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
        let effect = self.changes.take(datagram, ours, bridge);
        self.pending |= effect.concerns;
        self.overtaken |= effect.overtakes;
        self.rules += u64::from(effect.rule);
    }

    /// Records an error of the socket.
    fn lost(&mut self, error: &io::Error) {
        const ENOBUFS: i32 = 105;
        self.broken = error.raw_os_error() != Some(ENOBUFS);
        self.pending = true;
        self.overtaken = true;
        self.rules += 1;
        self.changes = Changes::everything();
        tracing::warn!(%error, "events were lost: the kernel is read again");
    }
}

#[cfg(test)]
mod tests;
