// SPDX-License-Identifier: Apache-2.0
//! Writes a snapshot whenever the leases or the VIPs change.
//!
//! A change is written at once, together with all changes within [`PAUSE`] after it. An unchanged
//! snapshot is written every [`REFRESH`], so that its age is the time since the process ended. A
//! failed write is shown in health and in the log; it is repeated with the next change, or after
//! [`REFRESH`].

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::Snapshot;
use crate::{
    ipam::{self, Leases, Record},
    proxy::{
        health::{Health, Part},
        vips::Vips,
    },
    task::{Task, Tasks},
};

/// Shortest time between two writes.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two writes.
const REFRESH: Duration = Duration::from_secs(60);

/// Stores snapshots.
pub trait Store: Send + Sync + 'static {
    /// Stores a snapshot in place of the previous one. May block.
    ///
    /// # Errors
    /// The previous one is kept.
    fn store(&self, snapshot: &Snapshot) -> io::Result<()>;
}

/// The sources of a snapshot.
#[derive(Debug)]
pub struct Sources {
    /// The leases.
    pub leases: Leases,
    /// The VIPs.
    pub vips: watch::Receiver<Vips>,
}

/// Writes snapshots for as long as it lives.
#[derive(Debug)]
pub struct Writer {
    finish: oneshot::Sender<Finish>,
    _task: Task,
}

/// The leases at the end, and where to report that they are written.
type Finish = (Vec<Record>, oneshot::Sender<()>);

impl Writer {
    /// Writes in a task of `tasks`.
    pub fn start(store: impl Store, sources: Sources, health: Health, tasks: &Tasks) -> Self {
        let (finish, finished) = oneshot::channel();
        let work = Work { store: Arc::new(store), sources, health, last: None, due: Instant::now() };
        Self { finish, _task: tasks.guarded(work.run(finished)) }
    }

    /// Writes the remaining leases at the end, and stops. Returns at the deadline, at the latest.
    pub async fn finish(self, leases: Vec<Record>, deadline: Instant) {
        let (done, written) = oneshot::channel();
        if self.finish.send((leases, done)).is_ok() && timeout_at(deadline, written).await.is_err() {
            tracing::warn!("the last snapshot is not written in time");
        }
    }
}

struct Work<S> {
    store: Arc<S>,
    sources: Sources,
    health: Health,
    last: Option<Snapshot>,
    /// When an unchanged snapshot is written again.
    due: Instant,
}

impl<S: Store> Work<S> {
    async fn run(mut self, mut finish: oneshot::Receiver<Finish>) {
        let mut status = self.sources.leases.status();
        while let Some(leases) = self.leases(&mut status).await {
            self.write(leases).await;
            tokio::select! {
                finish = &mut finish => return self.end(finish.ok()).await,
                () = self.changed(&mut status) => {}
            }
        }
        self.end(finish.await.ok()).await;
    }

    /// The present leases. `None` after they have been flushed.
    async fn leases(&mut self, status: &mut watch::Receiver<ipam::Status>) -> Option<Vec<Record>> {
        status.mark_unchanged();
        self.sources.vips.mark_unchanged();
        self.sources.leases.records().await
    }

    /// Waits for a change, or until it is time to write again, but at least [`PAUSE`].
    async fn changed(&mut self, status: &mut watch::Receiver<ipam::Status>) {
        sleep(PAUSE).await;
        tokio::select! {
            _ended = status.changed() => {}
            Ok(()) = self.sources.vips.changed() => {}
            () = sleep_until(self.due) => {}
        }
    }

    async fn end(mut self, finish: Option<Finish>) {
        if let Some((leases, done)) = finish {
            self.write(leases).await;
            let _left = done.send(());
        }
    }

    /// Writes the state if it has changed, or if it is time.
    async fn write(&mut self, leases: Vec<Record>) {
        let snapshot = Snapshot { leases, vips: self.sources.vips.borrow().list.clone() };
        let same = self.last.as_ref() == Some(&snapshot);
        if snapshot == Snapshot::default() {
            self.due = Instant::now() + REFRESH;
            return;
        }
        if same && Instant::now() < self.due {
            return;
        }
        let store = Arc::clone(&self.store);
        let stored = spawn_blocking(move || (store.store(&snapshot), snapshot)).await;
        let (result, snapshot) = match stored {
            Ok((result, snapshot)) => (result, Some(snapshot)),
            Err(panicked) => (Err(io::Error::other(panicked)), None),
        };
        (self.last, self.due) = (snapshot, Instant::now() + REFRESH);
        let failed =
            result.err().map(|error| format!("the snapshot is not written, the last one stays: {error}"));
        self.health.degrade(Part::Ipam, "snapshot file", failed);
    }
}

#[cfg(test)]
mod tests;
