// SPDX-License-Identifier: Apache-2.0

//! The state of a channel's connection.

use std::time::Duration;

use crate::transport::Wire;

/// The connection of a channel at one moment.
#[derive(Clone, Debug)]
pub struct Link {
    state: State,
    keepalive: Duration,
}

#[derive(Clone, Debug)]
enum State {
    /// The first attempt is in progress.
    Connecting,
    Up(Wire),
    /// A connection that had lasted has ended, and the first attempt to re-make it is in progress.
    Remaking,
    /// There is no connection; with the last failure.
    Down(String),
    /// There is a connection, less than a second old, after failed ones; with the end of the last
    /// of those.
    Unproven(Wire, String),
}

impl Link {
    pub(super) fn connecting(keepalive: Duration) -> Self {
        Self { state: State::Connecting, keepalive }
    }

    pub(super) fn up(wire: Wire, keepalive: Duration) -> Self {
        Self { state: State::Up(wire), keepalive }
    }

    pub(super) fn remaking(keepalive: Duration) -> Self {
        Self { state: State::Remaking, keepalive }
    }

    pub(super) fn down(error: String, keepalive: Duration) -> Self {
        Self { state: State::Down(error), keepalive }
    }

    pub(super) fn unproven(wire: Wire, error: String, keepalive: Duration) -> Self {
        Self { state: State::Unproven(wire, error), keepalive }
    }

    /// Whether the server can be reached, as far as is known.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_) | State::Remaking)
    }

    /// The last failure, until there is a connection that counts as up.
    pub fn error(&self) -> Option<&str> {
        match &self.state {
            State::Down(error) | State::Unproven(_, error) => Some(error),
            _ => None,
        }
    }

    /// Interval of pings while calls or streams are open.
    pub fn keepalive(&self) -> Duration {
        self.keepalive
    }

    /// The connection, if there is one.
    pub(super) fn wire(&self) -> Option<&Wire> {
        match &self.state {
            State::Up(wire) | State::Unproven(wire, _) => Some(wire),
            _ => None,
        }
    }

    /// Whether a call need not wait: there is a connection, or the last attempt made none.
    pub(super) fn is_settled(&self) -> bool {
        match &self.state {
            State::Connecting | State::Remaking => false,
            State::Up(wire) | State::Unproven(wire, _) => !wire.is_closed(),
            State::Down(_) => true,
        }
    }
}
