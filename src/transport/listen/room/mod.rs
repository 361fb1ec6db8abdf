// SPDX-License-Identifier: Apache-2.0

//! A bounded number of open connections, shared fairly among peers.
//!
//! When every place is taken, a newcomer gets that of a connection of the peer that has the most.
//! One without a call goes first, the newest of them; then the one that is idle for the longest;
//! then the newest. A peer that has the most itself displaces its own connections only, and no call
//! in progress: it is refused.
//!
//! # Close
//! Dropping a [`Seat`] frees its place. A displaced connection is asked to go, and its successor
//! waits for that: there are never more connections than places.

mod seat;
mod share;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

pub use self::seat::{CallInProgress, Calls, Seat};
use crate::transport::identity::Peer;

/// The peer of a connection, as far as connections are distinguished by it.
#[derive(Clone, Debug)]
pub(super) enum PeerKey {
    /// The SPIFFE id of its certificate.
    Svid(Arc<Peer>),
    /// Its process; 0 if it is not visible from here.
    Process(i32),
}

/// Bounds of a [`Room`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections of this process to itself, beside all others.
    pub(super) own: usize,
    /// Connections open at once.
    pub(super) connections: usize,
    /// How long a connection may be open before its first call.
    pub(super) uncalled: Duration,
    /// How long a connection may be without a call after that; `None` is unlimited.
    pub(super) idle: Option<Duration>,
}

/// Every place is taken by connections that a newcomer must not displace.
#[derive(Debug, thiserror::Error)]
#[error("{peer} has {found} of {limit} connections, all of them with calls in progress")]
pub(super) struct Full {
    peer: PeerKey,
    found: usize,
    limit: usize,
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Room {
    bounds: Bounds,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Taken>,
}

/// The state of an open connection.
#[derive(Debug)]
struct Taken {
    who: PeerKey,
    /// It is in the reserve of this process.
    own: bool,
    activity: Activity,
    displace: oneshot::Sender<oneshot::Sender<()>>,
}

/// A connection that makes room for another.
struct Displaced {
    who: PeerKey,
    /// Ends when the connection has.
    end: oneshot::Receiver<()>,
}

/// The activity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// None, since it was opened.
    Nothing(Instant),
    /// This many calls.
    Calls(usize),
    /// None, since its last call.
    Idle(Instant),
}

impl Room {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, places: Mutex::default() })
    }

    /// Takes a place for a connection; if another is displaced for it, waits until that has gone.
    /// Also returns the peer of the displaced one.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) async fn enter(
        self: &Arc<Self>,
        who: PeerKey,
        own: bool,
    ) -> Result<(Seat, Option<PeerKey>), Full> {
        let (seat, displaced) = self.take(who, own)?;
        let Some(Displaced { who, end }) = displaced else { return Ok((seat, None)) };
        // An error means that the sender is dropped, which is the end of the displaced connection.
        let _ended = end.await;
        Ok((seat, Some(who)))
    }

    fn take(self: &Arc<Self>, who: PeerKey, own: bool) -> Result<(Seat, Option<Displaced>), Full> {
        let mut places = self.lock();
        let own = own && places.of(true).count() < self.bounds.own;
        let displaced = match !own && places.of(false).count() >= self.bounds.connections {
            true => Some(places.displace(&who, self.bounds.connections)?),
            false => None,
        };
        let (displace, displacing) = oneshot::channel();
        let number = places.next;
        places.next += 1;
        let activity = Activity::Nothing(Instant::now());
        places.taken.insert(number, Taken { who, own, activity, displace });
        drop(places);
        Ok((Seat::new(Arc::clone(self), number, displacing), displaced))
    }

    /// Waits until a connection has been inactive for too long.
    async fn idle(&self, number: u64) {
        let Bounds { uncalled, idle, .. } = self.bounds;
        loop {
            let activity = self.lock().taken.get(&number).map(|taken| taken.activity);
            let until = match activity {
                Some(Activity::Nothing(since)) => Some(since + uncalled),
                Some(Activity::Idle(since)) => idle.map(|idle| since + idle),
                Some(Activity::Calls(_)) => idle.map(|idle| Instant::now() + idle),
                None => None,
            };
            match until {
                None => std::future::pending().await,
                Some(until) if until <= Instant::now() => return,
                Some(until) => tokio::time::sleep_until(until).await,
            }
        }
    }

    /// Bound of the reserve of this process.
    pub(super) fn own(&self) -> usize {
        self.bounds.own
    }

    fn change(&self, number: u64, change: impl FnOnce(Activity) -> Activity) {
        if let Some(taken) = self.lock().taken.get_mut(&number) {
            taken.activity = change(taken.activity);
        }
    }

    fn free(&self, number: u64) {
        let _taken = self.lock().taken.remove(&number);
    }

    /// Number of open connections.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().taken.len()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerKey {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Svid(this), Self::Svid(other)) => this.id() == other.id(),
            (Self::Process(this), Self::Process(other)) => this == other,
            _ => false,
        }
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Svid(peer) => write!(f, "`{}`", peer.id()),
            Self::Process(0) => f.write_str("another container"),
            Self::Process(pid) => write!(f, "process {pid}"),
        }
    }
}
