// SPDX-License-Identifier: Apache-2.0
//! Keep one connection to every load balancer that discovery shows.
//!
//! Each load balancer has a [`link`](Link) with a task of its own, so none waits for another: not for its Request, not for its
//! Close, not for its retries. An empty picture of discovery is a picture like any other here; whether it is to be believed
//! is decided by discovery.
//!
//! # Shutdown
//! [`Mesh::close`] closes all connections at once under one deadline.

mod link;
mod recovery;
mod status;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::{Id, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::link::Link;
pub use self::{
    recovery::{Nsmgr, Recovery, continued},
    status::{LinkState, Status},
};
use crate::chain::{Next, Task, Tasks};

/// What is the same for all connections of a mesh.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this proxy: the first part of every connection id.
    pub name: String,
    /// Network service of the load balancers.
    pub network_service: String,
    /// Time for one Request or Close.
    pub request_timeout: Duration,
}

/// The names of the load balancers there should be a connection to; `None` until discovery knows.
pub type Wanted = watch::Receiver<Option<BTreeSet<String>>>;

/// The connections to the load balancers. Dropping it leaves them as they are and stops following discovery.
#[derive(Debug)]
pub struct Mesh {
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    ended: watch::Receiver<bool>,
    _task: Task,
}

impl Mesh {
    /// Follow `wanted`, and request and close connections through `chain`.
    pub fn start<R: Recovery>(
        settings: Settings,
        chain: Next,
        recovery: R,
        wanted: Wanted,
        tasks: &Tasks,
    ) -> Self {
        let (publish, status) = watch::channel(Status::default());
        let (end, ended) = watch::channel(false);
        let stop = CancellationToken::new();
        let turn = Semaphore::new(1);
        let common = link::Common { settings, chain, recovery, turn, status: publish };
        let driver = Driver {
            common: common.into(),
            links: HashMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
        };
        let until = stop.clone();
        let task = tasks.guarded(async move {
            driver.run(wanted, until).await;
            end.send_replace(true);
        });
        Self { status, stop, ended, _task: task }
    }

    /// The state of every connection now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Close all connections at once, and cancel the Requests in progress. Returns when all are closed, or at the deadline.
    pub async fn close(mut self, deadline: Instant) {
        self.stop.cancel();
        if timeout_at(deadline, self.ended.wait_for(|ended| *ended)).await.is_err() {
            let open = self.status.borrow().to_string();
            tracing::warn!(open, "not every load balancer was closed in time");
        }
    }
}

/// Starts a link for each name and tells it when it is no longer wanted.
struct Driver<R> {
    common: std::sync::Arc<link::Common<R>>,
    links: HashMap<String, watch::Sender<bool>>,
    tasks: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl<R: Recovery> Driver<R> {
    async fn run(mut self, mut wanted: Wanted, stop: CancellationToken) {
        let mut followed = true;
        loop {
            let names = wanted.borrow_and_update().clone();
            if let Some(names) = names {
                self.follow(&names);
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = wanted.changed(), if followed => followed = changed.is_ok(),
                Some(ended) = self.tasks.join_next_with_id() => self.reap(ended.map_or_else(|error| error.id(), |(id, ())| id)),
            }
        }
        self.follow(&BTreeSet::new());
        while self.tasks.join_next().await.is_some() {}
    }

    fn follow(&mut self, names: &BTreeSet<String>) {
        for (name, wanted) in &self.links {
            let now = names.contains(name);
            wanted.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
        for name in names {
            if !self.links.contains_key(name) {
                let (sender, wanted) = watch::channel(true);
                let link = Link::new(name, self.common.clone(), wanted);
                let task = self.tasks.spawn(link.run());
                self.names.insert(task.id(), name.clone());
                self.links.insert(name.clone(), sender);
            }
        }
        self.common.status.send_modify(|status| status.known = true);
    }

    /// Forget a link that has ended. If it is wanted again meanwhile, the next round starts a new one.
    fn reap(&mut self, id: Id) {
        if let Some(name) = self.names.remove(&id) {
            self.links.remove(&name);
            self.common.status.send_modify(|status| drop(status.links.remove(&name)));
        }
    }
}

#[cfg(test)]
mod tests;
