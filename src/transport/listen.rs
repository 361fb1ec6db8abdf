// SPDX-License-Identifier: Apache-2.0

//! Accept connections with mTLS, each with the SVID of that moment.
//!
//! [`Listener`] is a stream of [`Accepted`] connections for [`serve_with_incoming`](tonic::transport::server::Router). Handshakes
//! run beside one another, at most [`MAX_HANDSHAKES`], each for at most [`HANDSHAKE_TIMEOUT`]; at most
//! [`MAX_CONNECTIONS`] connections are open, and one more waits in the socket's backlog. A connection whose handshake fails is closed
//! and logged; it does not end the stream.
//!
//! # Close
//! Dropping the listener stops accepting, ends handshakes in progress and removes the socket file. Accepted connections stay.

mod accepted;
mod handshake;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Sleep, sleep},
};
use tokio_util::sync::PollSemaphore;
use tracing::warn;

pub use self::{accepted::Accepted, socket::ListenError};
use self::{handshake::shake, socket::Listening};
use super::{identity::Identity, target::Target};

/// Most handshakes at once.
pub const MAX_HANDSHAKES: usize = 32;
/// Longest handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections at once. A forwarder keeps one for each link.
pub const MAX_CONNECTIONS: usize = 1024;

/// Pause after an error of accept, which lasts (no descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket, as a stream of connections that have passed the handshake.
pub struct Listener {
    socket: Listening,
    identity: Identity,
    handshakes: JoinSet<Option<Accepted>>,
    room: PollSemaphore,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Listener {
    /// Listen on `target`. A unix socket is made in its folder, which is created if it is missing, and open to all users, for the
    /// peers may be others; a socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(target: &Target, identity: Identity) -> Result<Self, ListenError> {
        let socket = Listening::bind(target).await?;
        let room = PollSemaphore::new(Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        Ok(Self { socket, identity, handshakes: JoinSet::new(), room, pause: None })
    }

    /// Where it listens; for TCP with the port that the system chose.
    ///
    /// # Errors
    /// That of the system.
    pub fn target(&self) -> io::Result<Target> {
        self.socket.target()
    }

    /// Accept until there is nothing to accept or no room.
    fn accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.handshakes.len() < MAX_HANDSHAKES {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            // The semaphore is never closed, so there is a permit.
            let Some(permit) = ready!(self.room.poll_acquire(cx)) else { return Poll::Pending };
            match self.socket.poll_accept(cx) {
                Poll::Ready(Ok(stream)) => {
                    let shake = shake(stream, self.identity.current(), permit);
                    self.handshakes.spawn(shake);
                }
                Poll::Ready(Err(error)) => {
                    warn!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}

impl Stream for Listener {
    type Item = io::Result<Accepted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let _pending = self.accept(cx);
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(accepted)))) => return Poll::Ready(Some(Ok(accepted))),
                // It failed, which is logged: there is room for another.
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
