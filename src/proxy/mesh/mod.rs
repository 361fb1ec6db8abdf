// SPDX-License-Identifier: Apache-2.0
//! Keeps one connection to every load balancer that discovery lists.
//!
//! Each load balancer has a link with a task of its own, so none waits for another: not for its
//! Request, not for its Close, not for its retries. An empty list is treated like any other here;
//! discovery decides whether it is plausible.
//!
//! # Shutdown
//! [`Mesh::close`] closes all connections at once under one deadline.

mod link;
mod links;
mod recovery;
mod status;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::{Id, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::link::Link;
pub(crate) use self::{
    links::Links,
    recovery::{Nsmgr, Recovery},
    status::{LinkState, Status},
};
use crate::{
    chain::Next,
    registry::discovery::Discovered,
    task::{Task, Tasks},
};

/// Time for the last connections to be closed after the first.
const STRAGGLERS: Duration = Duration::from_secs(6);

/// Settings of all connections of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Name of this proxy: the first part of every connection id.
    pub name: String,
    /// Network service of the load balancers.
    pub network_service: String,
    /// Timeout of one Request or Close.
    pub request_timeout: Duration,
}

impl Settings {
    /// The id of the connection to a load balancer: as in Meridio, and the same after a restart.
    pub(crate) fn connection_id(&self, endpoint: &str) -> String {
        format!("{}-{}-{endpoint}", self.name, self.network_service)
    }
}

/// The connections to the load balancers. Dropping it leaves them in place and stops following
/// discovery.
#[derive(Debug)]
pub(crate) struct Mesh {
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    ended: watch::Receiver<bool>,
    _task: Task,
}

impl Mesh {
    /// Keeps a connection, requested and closed through `chain`, to each endpoint in `known`. The
    /// state is published to `status`.
    pub(crate) fn start<R: Recovery>(
        settings: Settings,
        chain: Next,
        recovery: R,
        known: watch::Receiver<Discovered>,
        status: watch::Sender<Status>,
        tasks: &Tasks,
    ) -> Self {
        let watched = status.subscribe();
        let (end, ended) = watch::channel(false);
        let stop = CancellationToken::new();
        let common = link::Common { settings, chain, recovery, turn: Semaphore::new(1), status };
        let driver = Driver::new(common);
        let until = stop.clone();
        let task = tasks.guarded(async move {
            driver.run(known, until).await;
            end.send_replace(true);
        });
        Self { status: watched, stop, ended, _task: task }
    }

    /// The state of every connection, and its changes.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Closes all connections at once, and cancels the Requests in progress. Returns when all are
    /// closed, or at the deadline. Once one is closed, the others have until six seconds after the
    /// beginning: those that hang then will not answer.
    pub(crate) async fn close(mut self, deadline: Instant) {
        let stragglers = Instant::now() + STRAGGLERS;
        let mut status = self.status.clone();
        let open = self.status.borrow().links.len();
        self.stop.cancel();
        let first = async {
            if status.wait_for(|status| status.links.len() < open).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            _ = self.ended.wait_for(|ended| *ended) => return,
            () = async { first.await; sleep_until(stragglers).await } => {}
            () = sleep_until(deadline) => {}
        }
        let open = self.status.borrow().to_string();
        tracing::warn!(open, "not every load balancer was closed in time");
    }
}

/// Starts a link for each endpoint and stops it when the endpoint is no longer wanted.
struct Driver<R> {
    common: Arc<link::Common<R>>,
    links: HashMap<String, watch::Sender<bool>>,
    tasks: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl<R: Recovery> Driver<R> {
    fn new(common: link::Common<R>) -> Self {
        let links = HashMap::new();
        let names = HashMap::new();
        Self { common: Arc::new(common), links, tasks: JoinSet::new(), names }
    }

    async fn run(mut self, mut known: watch::Receiver<Discovered>, stop: CancellationToken) {
        let mut followed = true;
        loop {
            let now = known.borrow_and_update().clone();
            self.follow(now.endpoints.keys().cloned().collect());
            self.common.status.send_if_modified(|status| {
                std::mem::replace(&mut status.known, now.complete) != now.complete
            });
            tokio::select! {
                () = stop.cancelled() => break,
                changed = known.changed(), if followed => followed = changed.is_ok(),
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.reap(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
            }
        }
        self.follow(BTreeSet::new());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.reap(ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
    }

    fn follow(&mut self, names: BTreeSet<String>) {
        for (name, wanted) in &self.links {
            let now = names.contains(name);
            wanted.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
        for name in names {
            if !self.links.contains_key(&name) {
                let (sender, wanted) = watch::channel(true);
                let link = Link::new(&name, self.common.clone(), wanted);
                let task = self.tasks.spawn(link.run());
                self.names.insert(task.id(), name.clone());
                self.links.insert(name, sender);
            }
        }
    }

    /// Forgets a link that has ended. If it is wanted again meanwhile, the next round starts a new
    /// one.
    fn reap(&mut self, id: Id) {
        if let Some(name) = self.names.remove(&id) {
            self.links.remove(&name);
            self.common.status.send_modify(|status| drop(status.links.remove(&name)));
        }
    }
}

#[cfg(test)]
mod tests;
