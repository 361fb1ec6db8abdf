// SPDX-License-Identifier: Apache-2.0

//! Accepts connections, with mTLS or without.
//!
//! [`Listener`] is a stream of [`Accepted`] connections for [`serve`](crate::server::serve()). It
//! always accepts, and stays within its bounds by closing the least active connections:
//! - Of connections whose peer has not been authenticated, those that are silent; see `newcomers`.
//! - Of open connections, those of the peer that has the most; see `room`.
//!
//! Both have a reserve for connections of this process, by which the proxy checks itself. A
//! handshake may take [`HANDSHAKE_TIMEOUT`]. The cause of each closed connection is logged, each
//! cause once a minute.
//!
//! # Close
//! Dropping the listener stops accepting, ends handshakes in progress and removes the socket file.
//! Accepted connections stay.

mod accept;
mod accepted;
mod handshake;
mod newcomers;
mod room;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tracing::{info, warn};

use self::{
    accept::Accepting,
    handshake::{HandshakeResult, Handshakes},
    newcomers::Newcomers,
    room::{Bounds, Room},
    socket::Listening,
};
pub use self::{
    accepted::Accepted,
    room::{CallInProgress, Calls, Seat},
    socket::ListenError,
};
use super::{address::Address, descriptors, identity::Identity, tally::Tally};
use crate::chain::causes;

/// Timeout of a handshake, counted from the arrival of a connection.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of connections before the end of their handshakes. Fewer if this process may have
/// few descriptors when it begins to listen.
pub(crate) const MAX_NEWCOMERS: usize = 128;
/// Maximum number of open connections. A forwarder keeps one for each link. Fewer if this process
/// may have few descriptors when it begins to listen.
pub(crate) const MAX_CONNECTIONS: usize = 1024;
/// Number of connections of this process to itself that are kept beside all others.
const OWN: usize = 8;
/// Maximum number of open connections without TLS, and of those before their first byte.
pub(crate) const MAX_PLAIN: usize = 32;
/// How long a connection without TLS may be idle.
pub(crate) const PLAIN_IDLE: Duration = Duration::from_secs(60);
/// How long a connection may be open before its first call.
pub(crate) const UNCALLED: Duration = Duration::from_secs(30);

/// A listening socket, as a stream of connections that have passed the handshake.
pub struct Listener {
    socket: Accepting,
    newcomers: Newcomers,
    #[cfg(test)]
    room: Arc<Room>,
    closed: Tally,
    displaced: Tally,
}

impl Listener {
    /// Listens on `address` for peers that present an SVID; each receives the SVID of that moment.
    /// A unix socket is made in its folder, which is created if it is missing, and open to all
    /// users, because peers may be other users; a socket file without a listener is replaced.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: &Address, identity: Identity) -> Result<Self, ListenError> {
        let socket = Listening::bind(address, Some(0o777)).await?;
        let connections = descriptors::share(2, MAX_CONNECTIONS);
        let bounds = Bounds { own: OWN, connections, uncalled: UNCALLED, idle: None };
        Ok(Self::within(socket, Some(identity), descriptors::share(8, MAX_NEWCOMERS), bounds))
    }

    /// Listens on `address` without TLS, for every process that may write to it: for probes. An
    /// idle connection is closed after a minute. The file of a unix socket has the mode of the
    /// process's umask.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind_plain(address: &Address) -> Result<Self, ListenError> {
        Ok(Self::plain(Listening::bind(address, None).await?))
    }

    /// Like [`bind_plain`](Self::bind_plain); only the user of this process may connect to a unix
    /// socket.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind_private(address: &Address) -> Result<Self, ListenError> {
        Ok(Self::plain(Listening::bind(address, Some(0o600)).await?))
    }

    fn plain(socket: Listening) -> Self {
        let connections = descriptors::share(16, MAX_PLAIN);
        let bounds = Bounds { own: 0, connections, uncalled: HANDSHAKE_TIMEOUT, idle: Some(PLAIN_IDLE) };
        Self::within(socket, None, connections, bounds)
    }

    fn within(socket: Listening, identity: Option<Identity>, newcomers: usize, bounds: Bounds) -> Self {
        let room = Room::new(bounds);
        let handshakes = Handshakes { identity, room: Arc::clone(&room), descriptors: false };
        Self {
            socket: Accepting::new(socket),
            newcomers: Newcomers::new(handshakes, newcomers),
            #[cfg(test)]
            room,
            closed: Tally::default(),
            displaced: Tally::default(),
        }
    }

    /// Receives the descriptors that peers send once they have been authenticated. For servers with
    /// calls that claim some; without this, all are refused.
    pub fn keep_descriptors(mut self) -> Self {
        self.newcomers.handshakes.descriptors = true;
        self
    }

    /// The address on which it listens; for TCP with the port that the system chose.
    ///
    /// # Errors
    /// That of the system.
    pub fn address(&self) -> io::Result<Address> {
        self.socket.address()
    }

    /// Accepts until no connection waits.
    fn accept(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(accepted) = self.socket.poll_accept(cx) {
            let closed = match accepted {
                Ok(arrived) => self.newcomers.push(arrived),
                // Most likely no descriptor is left: closing a newcomer frees one.
                Err(_logged) => self.newcomers.close_one(),
            };
            closed.into_iter().for_each(|why| self.log_closed(&why));
        }
    }

    /// The connection of a completed handshake; failed ones are logged.
    fn settle(&mut self, shaken: HandshakeResult) -> Option<Accepted> {
        match shaken {
            Ok((accepted, displaced)) => {
                let displaced = displaced.and_then(|peer| self.displaced.note(&peer.to_string()));
                if let Some(peer) = displaced {
                    info!(peer, "connections are closed to make room for others");
                }
                Some(accepted)
            }
            Err(why) => {
                self.log_closed(&why);
                None
            }
        }
    }

    fn log_closed(&mut self, why: &handshake::Rejected) {
        if let Some(reason) = self.closed.note(&causes(why)) {
            warn!(reason, "connection rejected");
        }
    }

    fn log_recurred(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready((reason, more)) = self.closed.poll_recurred(cx) {
            warn!(reason, more, "connections rejected in the last minute");
        }
        while let Poll::Ready((peer, more)) = self.displaced.poll_recurred(cx) {
            info!(peer, more, "connections closed in the last minute to make room for others");
        }
    }
}

impl Stream for Listener {
    type Item = io::Result<Accepted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accept(cx);
        while let Poll::Ready(shaken) = self.newcomers.poll(cx) {
            if let Some(accepted) = self.settle(shaken) {
                return Poll::Ready(Some(Ok(accepted)));
            }
        }
        self.log_recurred(cx);
        Poll::Pending
    }
}
