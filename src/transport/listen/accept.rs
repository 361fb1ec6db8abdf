// SPDX-License-Identifier: Apache-2.0

//! Accepts from a socket, with a pause when that fails.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};
use tracing::warn;

use super::socket::{Incoming, Listening};
use crate::transport::{address::Address, tally::Tally};

/// Pause after an error of accept, which lasts: most likely no descriptor is left.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket that pauses when it cannot accept.
pub(super) struct Accepting {
    socket: Listening,
    paused: bool,
    pause: Pin<Box<Sleep>>,
    failures: Tally,
}

impl Accepting {
    pub(super) fn new(socket: Listening) -> Self {
        let pause = Box::pin(sleep_until(Instant::now()));
        Self { socket, paused: false, pause, failures: Tally::default() }
    }

    pub(super) fn address(&self) -> io::Result<Address> {
        self.socket.address()
    }

    /// Accepts a connection. An error has been logged, and a pause follows it.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        while let Poll::Ready((reason, more)) = self.failures.poll_recurred(cx) {
            warn!(reason, more, "connections could not be accepted in the last minute");
        }
        if self.paused {
            ready!(self.pause.as_mut().poll(cx));
            self.paused = false;
        }
        let accepted = ready!(self.socket.poll_accept(cx));
        if let Err(error) = &accepted {
            if let Some(reason) = self.failures.note(&error.to_string()) {
                warn!(reason, "cannot accept connections");
            }
            self.pause.as_mut().reset(Instant::now() + PAUSE);
            self.paused = true;
        }
        Poll::Ready(accepted)
    }
}
