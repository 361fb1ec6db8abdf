// SPDX-License-Identifier: Apache-2.0

//! A bounded number of connections whose peers have not been authenticated.
//!
//! A silent one costs a socket; its handshake begins with its first byte. When there are too many,
//! each new one replaces a silent one: the newest of those that have been silent for longer than
//! [`GRACE`], else the oldest. If none is silent, the longest handshake is given up. Connections of
//! this process itself have a reserve.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    task::{AbortHandle, Id, JoinSet},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    HANDSHAKE_TIMEOUT,
    handshake::{HandshakeResult, Handshakes, Rejected},
    socket::Incoming,
};

/// Time for a peer's first byte before other connections are preferred to it.
const GRACE: Duration = Duration::from_millis(100);

/// Connections before and in their handshakes.
pub(super) struct Newcomers {
    pub(super) handshakes: Handshakes,
    limit: usize,
    /// In the order of their arrival.
    silent: VecDeque<Silent>,
    shaking: JoinSet<HandshakeResult>,
    /// The handshakes in `shaking`, in the order of their beginning.
    order: VecDeque<Handshake>,
    timer: Pin<Box<Sleep>>,
}

struct Silent {
    arrived: Incoming,
    own: bool,
    since: Instant,
}

struct Handshake {
    task: AbortHandle,
    own: bool,
}

impl Newcomers {
    pub(super) fn new(handshakes: Handshakes, limit: usize) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        let silent = VecDeque::new();
        let order = VecDeque::new();
        Self { handshakes, limit, silent, shaking: JoinSet::new(), order, timer }
    }

    /// Lets a connection in. Returns why another was closed for it.
    pub(super) fn push(&mut self, arrived: Incoming) -> Option<Rejected> {
        let own = arrived.pid == own_pid() && self.count(true) < self.handshakes.room.own();
        let crowded = !own && self.count(false) >= self.limit;
        let closed = if crowded { self.close_one() } else { None };
        self.begin_or_wait(Silent { arrived, own, since: Instant::now() });
        closed
    }

    /// The next handshake that is done or has failed. Pending when there is none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandshakeResult> {
        let mut at = 0;
        while let Some(silent) = self.silent.get(at) {
            match silent.arrived.socket.poll_heard(cx) {
                Poll::Ready(()) => self.silent.remove(at).into_iter().for_each(|heard| self.begin(heard)),
                Poll::Pending => at += 1,
            }
        }
        while let Poll::Ready(Some(done)) = self.shaking.poll_join_next_with_id(cx) {
            let (id, shaken) = match done {
                Ok((id, shaken)) => (id, Some(shaken)),
                // It was given up, which has been logged, or it panicked.
                Err(error) => (error.id(), None),
            };
            self.forget(id);
            if let Some(shaken) = shaken {
                return Poll::Ready(shaken);
            }
        }
        ready!(self.poll_timer(cx));
        Poll::Ready(Err(Rejected::Slow))
    }

    /// Closes a connection, so that there is room for another. Returns the reason.
    pub(super) fn close_one(&mut self) -> Option<Rejected> {
        while let Some(silent) = self.least_silent().and_then(|at| self.silent.remove(at)) {
            if !silent.arrived.socket.is_heard() {
                return Some(Rejected::Silent(self.limit));
            }
            self.begin(silent);
        }
        let at = self.order.iter().position(|shaking| !shaking.own)?;
        self.order.remove(at)?.task.abort();
        Some(Rejected::Slowest(self.limit))
    }

    /// The silent connection to close first.
    fn least_silent(&self) -> Option<usize> {
        let now = Instant::now();
        self.silent
            .iter()
            .rposition(|silent| !silent.own && silent.since + GRACE <= now)
            .or_else(|| self.silent.iter().position(|silent| !silent.own))
    }

    fn begin_or_wait(&mut self, newcomer: Silent) {
        if newcomer.arrived.socket.is_heard() {
            self.begin(newcomer);
        } else {
            self.silent.push_back(newcomer);
        }
    }

    fn begin(&mut self, Silent { arrived, own, since }: Silent) {
        let shake = self.handshakes.clone().shake(arrived, own, since + HANDSHAKE_TIMEOUT);
        let task = self.shaking.spawn(shake);
        self.order.push_back(Handshake { task, own });
    }

    /// Waits until the oldest silent connection has been silent for too long, and closes it.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(first) = self.silent.front() else { return Poll::Pending };
        let until = first.since + HANDSHAKE_TIMEOUT;
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.silent.pop_front();
        Poll::Ready(())
    }

    fn forget(&mut self, id: Id) {
        self.order.retain(|shaking| shaking.task.id() != id);
    }

    /// Number of connections that have been silent.
    #[cfg(test)]
    pub(super) fn silent(&self) -> usize {
        self.silent.len()
    }

    /// Connections in the reserve of this process, or all others.
    fn count(&self, own: bool) -> usize {
        let silent = self.silent.iter().filter(|silent| silent.own == own).count();
        silent + self.order.iter().filter(|shaking| shaking.own == own).count()
    }
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}
