// SPDX-License-Identifier: Apache-2.0

//! The place of one open connection, and its calls in progress.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use super::{Activity, Room};

/// The place of an open connection among those that its listener keeps. Dropping it frees the
/// place: drop the connection first.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    number: u64,
    displacing: oneshot::Receiver<oneshot::Sender<()>>,
    /// Dropped with this seat; the successor waits for that.
    _gone: Option<oneshot::Sender<()>>,
}

/// Counts the calls of a connection. Clones count for the same connection.
#[derive(Clone, Debug)]
pub struct Calls {
    room: Arc<Room>,
    number: u64,
}

/// A call in progress, until it is dropped.
#[derive(Debug)]
pub struct CallInProgress(Calls);

impl Seat {
    pub(super) fn new(
        room: Arc<Room>,
        number: u64,
        displacing: oneshot::Receiver<oneshot::Sender<()>>,
    ) -> Self {
        Self { room, number, displacing, _gone: None }
    }

    /// The counter of this connection's calls.
    pub fn calls(&self) -> Calls {
        Calls { room: Arc::clone(&self.room), number: self.number }
    }

    /// Waits until the connection must end: another needs its place, or it has been inactive for
    /// too long. Must not be awaited again after it has completed.
    pub async fn unwanted(&mut self) {
        tokio::select! {
            gone = &mut self.displacing => self._gone = gone.ok(),
            () = self.room.idle(self.number) => {}
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.free(self.number);
    }
}

impl Calls {
    /// Counts one more call.
    pub fn begin(&self) -> CallInProgress {
        self.room.change(self.number, |activity| match activity {
            Activity::Calls(calls) => Activity::Calls(calls + 1),
            Activity::Nothing(_) | Activity::Idle(_) => Activity::Calls(1),
        });
        CallInProgress(self.clone())
    }
}

impl Drop for CallInProgress {
    fn drop(&mut self) {
        self.0.room.change(self.0.number, |activity| match activity {
            Activity::Calls(calls) if calls > 1 => Activity::Calls(calls - 1),
            _ => Activity::Idle(Instant::now()),
        });
    }
}
