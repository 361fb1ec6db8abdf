// SPDX-License-Identifier: Apache-2.0

//! Keeps the descriptors of one physical connection: those that wait to be sent, and received ones
//! that wait to be claimed.
//!
//! A hub refuses received descriptors until it is set to keep them. The kernel closes a refused
//! descriptor, which never gets a number in this process.

use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::stream::MAX_PER_MESSAGE;
use crate::{api::Inode, transport::descriptors};

/// Maximum number of descriptors that wait to be sent on one connection.
pub(crate) const MAX_QUEUED: usize = 256;

/// Maximum number of received descriptors that one connection keeps unclaimed. One more closes the
/// oldest; the first time, this is logged.
pub(crate) const MAX_UNCLAIMED: usize = 256;

/// How long a received descriptor is kept unclaimed: longer than the longest call.
pub(crate) const UNCLAIMED: Duration = Duration::from_secs(90);

/// Which descriptors a connection receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Receives {
    /// None.
    #[default]
    None,
    /// None yet: descriptors that follow a handshake are left to be read after it.
    Later,
    /// All.
    All,
}

/// Descriptors of one call. Insert it into the extensions of a [`tonic::Request`]: they leave with
/// the first bytes of the call, and are withdrawn if the call ends before that.
#[derive(Clone, Debug)]
pub struct SendFds(pub Vec<Arc<OwnedFd>>);

/// The descriptors of one physical connection, in both directions. Bounded; closed with the
/// connection.
#[derive(Default)]
pub struct FdHub {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Outgoing>,
    tickets: u64,
    unclaimed: VecDeque<Unclaimed>,
    receives: Receives,
    /// One was closed because the hub was full, and this was logged.
    overflown: bool,
    closed: bool,
}

struct Outgoing {
    ticket: u64,
    fd: Arc<OwnedFd>,
}

struct Unclaimed {
    inode: Inode,
    fd: OwnedFd,
    until: Instant,
}

/// Descriptors in the queue of a hub; dropping it withdraws those that have not left.
#[must_use = "dropping it withdraws the descriptors"]
pub struct Queued {
    hub: Arc<FdHub>,
    ticket: u64,
}

impl FdHub {
    /// Queues a descriptor. It leaves with the next bytes that the connection writes.
    ///
    /// # Errors
    /// `BrokenPipe` when the connection is closed; `QuotaExceeded` when 256 descriptors wait
    /// already.
    pub fn send(&self, fd: Arc<OwnedFd>) -> io::Result<()> {
        self.push(&[fd]).map(drop)
    }

    /// Queues the descriptors of one call, all or none. Keep the result until the call has ended.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn queue(self: &Arc<Self>, fds: &SendFds) -> io::Result<Queued> {
        let ticket = self.push(&fds.0)?;
        Ok(Queued { hub: Arc::clone(self), ticket })
    }

    /// Claims a received descriptor, waiting until it arrives. One arrival satisfies one claim.
    ///
    /// `None` if it has not arrived by the deadline, or the connection is closed.
    pub async fn take(&self, inode: Inode, deadline: Instant) -> Option<OwnedFd> {
        let claim = async {
            loop {
                let mut arrived = pin!(self.arrived.notified());
                arrived.as_mut().enable();
                let (fd, closed) = self.claim(inode);
                if fd.is_some() || closed {
                    return fd;
                }
                arrived.await;
            }
        };
        tokio::time::timeout_at(deadline, claim).await.ok().flatten()
    }

    /// Keeps the descriptors that are received from now on, until they are claimed. For connections
    /// with calls that claim some; all others refuse them.
    pub fn keep_received(&self) {
        self.receive(Receives::All);
    }

    pub(crate) fn receive(&self, receives: Receives) {
        self.lock().receives = receives;
    }

    pub(super) fn receives(&self) -> Receives {
        self.lock().receives
    }

    /// Number of descriptors that wait to leave.
    pub fn queued(&self) -> usize {
        self.lock().queue.len()
    }

    /// Number of received descriptors that have not been claimed.
    pub fn unclaimed(&self) -> usize {
        self.lock().unclaimed.len()
    }

    /// Keeps a received descriptor until it is claimed.
    pub(crate) fn store(&self, fd: OwnedFd) {
        let Ok(inode) = Inode::of(&fd) else { return };
        if !descriptors::leaves_reserve(&fd) {
            let limit = descriptors::limit();
            tracing::warn!(%inode, limit, "a descriptor is closed: too few are left in this process");
            return;
        }
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let oldest = (state.unclaimed.len() >= MAX_UNCLAIMED).then(|| state.unclaimed.pop_front());
        let first_too_many = oldest.is_some() && !std::mem::replace(&mut state.overflown, true);
        state.unclaimed.push_back(Unclaimed { inode, fd, until: Instant::now() + UNCLAIMED });
        drop(state);
        drop(oldest);
        if first_too_many {
            tracing::warn!(
                accepted = MAX_UNCLAIMED,
                "more descriptors than anybody claims: the oldest are closed"
            );
        }
        self.arrived.notify_waiters();
    }

    /// Closes descriptors that have been unclaimed for too long. Returns when the next one expires.
    pub(super) fn expire(&self) -> Option<Instant> {
        let mut state = self.lock();
        let now = Instant::now();
        let late = state.unclaimed.iter().take_while(|unclaimed| unclaimed.until <= now).count();
        let late: Vec<Unclaimed> = state.unclaimed.drain(..late).collect();
        let next = state.unclaimed.front().map(|unclaimed| unclaimed.until);
        drop(state);
        drop(late);
        next
    }

    /// Calls `write` with the descriptors of the next message and whether more wait behind them; on
    /// success they have left.
    pub(super) fn leave(
        &self,
        write: impl FnOnce(&[BorrowedFd<'_>], bool) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut state = self.lock();
        let count = state.queue.len().min(MAX_PER_MESSAGE);
        let more = state.queue.len() > count;
        let fds: Vec<BorrowedFd<'_>> =
            state.queue.iter().take(count).map(|waiting| waiting.fd.as_fd()).collect();
        let written = write(&fds, more)?;
        drop(fds);
        let left: Vec<Outgoing> = state.queue.drain(..count).collect();
        drop(state);
        drop(left);
        Ok(written)
    }

    /// Drops everything, ends all waits, and refuses later descriptors.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let rest = (std::mem::take(&mut state.queue), std::mem::take(&mut state.unclaimed));
        drop(state);
        drop(rest);
        self.arrived.notify_waiters();
    }

    fn push(&self, fds: &[Arc<OwnedFd>]) -> io::Result<u64> {
        let mut state = self.lock();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.queue.len() + fds.len() > MAX_QUEUED {
            let text = format!(
                "{} descriptors wait to be sent (accepted: {MAX_QUEUED})",
                state.queue.len() + fds.len()
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        state.tickets += 1;
        let ticket = state.tickets;
        state.queue.extend(fds.iter().map(|fd| Outgoing { ticket, fd: Arc::clone(fd) }));
        Ok(ticket)
    }

    fn claim(&self, inode: Inode) -> (Option<OwnedFd>, bool) {
        let mut state = self.lock();
        let place = state.unclaimed.iter().position(|unclaimed| unclaimed.inode == inode);
        let fd = place.and_then(|place| state.unclaimed.remove(place)).map(|unclaimed| unclaimed.fd);
        (fd, state.closed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.hub.lock().queue.retain(|waiting| waiting.ticket != self.ticket);
    }
}

impl fmt::Debug for FdHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("FdHub")
            .field("queued", &state.queue.len())
            .field("unclaimed", &state.unclaimed.len())
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}
