// SPDX-License-Identifier: Apache-2.0

//! Notice that a connection is broken, and request it again (NSM `heal`).
//!
//! Two things are watched after each Request: over the same wire, whether the peers still know the connection; and, if the settings
//! have a [`Liveness`], whether traffic passes. What is done when one fails is decided by [`rules`]. In short: while the link may carry
//! traffic it is kept and the Request repeated, as a refresh would be; a dead one is made anew, to the same endpoint.
//!
//! The first attempt comes within 200 ms, the next ones 200 ms to 5 s apart. A connection that breaks again soon after it was healed is
//! healed more and more rarely, down to every 30 s: each of its attempts succeeds, so only a breaker ends that loop.
//!
//! # Order
//! Above everything that a healed connection needs again; below `refresh`.
//!
//! # State
//! The task that watches and heals. A Request that succeeds replaces it; one that fails leaves it. It never closes by itself.
//!
//! # Close
//! Stops the task first. The Close at the start of a reselect, which the task itself asked for, leaves it.

mod control;
mod pace;
pub mod rules;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use self::{
    control::lost,
    pace::Flaps,
    rules::{Remedy, Symptoms},
};
use crate::{
    api::{Connection, pb::connection::MonitorScopeSelector},
    chain::{Close, Element, Events, Kind, Next, Order, Origin, Reason, Request, Result, Scope, Task},
    transport::{
        Wire,
        monitor::{self, Ours},
    },
};

/// Says whether traffic passes over the link of a connection.
pub trait Liveness: Send + Sync + 'static {
    /// Watch the link of an answered connection; `None` if it cannot be watched. It counts as alive until the value is false.
    fn watch(&self, answer: &Connection) -> Option<watch::Receiver<bool>>;
}

/// How to watch and heal.
#[derive(Clone)]
pub struct Settings {
    /// Whether traffic passes. Without it, links count as alive until peers have refused often enough.
    pub liveness: Option<Arc<dyn Liveness>>,
    /// Refusals after which a link of unknown state is made anew.
    pub reselect_after: u32,
    /// How long the token lives with which the monitor stream is opened.
    pub token_lifetime: Duration,
}

impl Default for Settings {
    /// No liveness, reselect after 6 refusals (about 6 s), tokens of ten minutes.
    fn default() -> Self {
        Self { liveness: None, reselect_after: 6, token_lifetime: Duration::from_secs(600) }
    }
}

/// Element that heals.
#[derive(Clone)]
pub struct Heal {
    settings: Settings,
    peers: Arc<dyn Peers>,
}

/// Where events of the peers come from.
trait Peers: Send + Sync + 'static {
    fn watch(&self, scope: &Scope, selector: MonitorScopeSelector) -> Option<monitor::Events>;
}

/// From the wire that the Request went over.
struct OverWire(Duration);

impl Peers for OverWire {
    fn watch(&self, scope: &Scope, selector: MonitorScopeSelector) -> Option<monitor::Events> {
        Some(monitor::watch(&*scope.get::<Wire>()?, selector, self.0))
    }
}

struct Watching(#[expect(dead_code, reason = "a guard")] Task);

impl Heal {
    /// Heal by these settings.
    pub fn new(settings: Settings) -> Self {
        let peers = Arc::new(OverWire(settings.token_lifetime));
        Self { settings, peers }
    }

    /// What to watch of an answered connection.
    fn patient(&self, answer: &Connection, scope: &Scope) -> Patient {
        let ours = Ours::of(answer);
        let events = ours.as_ref().and_then(|ours| self.peers.watch(scope, ours.selector()));
        let flaps = scope.get::<Flaps>().map(|flaps| (*flaps).clone()).unwrap_or_default();
        scope.insert(flaps.clone());
        Patient {
            control: ours.zip(events),
            alive: self.settings.liveness.as_ref().and_then(|liveness| liveness.watch(answer)),
            flaps,
            since: Instant::now(),
            reselect_after: self.settings.reselect_after,
        }
    }
}

/// A connection that is watched.
struct Patient {
    control: Option<(Ours, monitor::Events)>,
    alive: Option<watch::Receiver<bool>>,
    flaps: Flaps,
    since: Instant,
    reselect_after: u32,
}

impl Patient {
    /// Watch, and heal until a Request has succeeded, which replaces this task.
    async fn care(mut self, events: Events) {
        let how = self.broken().await;
        tracing::warn!(how, "the connection is broken");
        let mut symptoms = Symptoms::default();
        let mut pause = pace::after_failures();
        sleep(self.flaps.pause(self.since)).await;
        loop {
            symptoms.alive = self.alive.as_ref().map(|alive| *alive.borrow());
            let remedy = rules::remedy(&symptoms, self.reselect_after);
            let outcome = match remedy {
                Remedy::Again => events.request(Kind::Heal),
                Remedy::Reselect => events.reselect(Kind::Heal, true),
            };
            let Err(error) = outcome.await else { return };
            if matches!(error.reason(), Reason::Ended) {
                return;
            }
            tracing::warn!(%error, ?remedy, "the connection could not be healed, trying again");
            symptoms.learn(&error);
            symptoms.reselected |= remedy == Remedy::Reselect;
            sleep(pause.delay()).await;
        }
    }

    /// Wait until one of the two watches says that the connection is broken.
    async fn broken(&mut self) -> String {
        let control = async {
            match &mut self.control {
                Some((ours, events)) => lost(ours, events).await,
                None => std::future::pending().await,
            }
        };
        let data = async {
            let dead = match &mut self.alive {
                Some(alive) => alive.wait_for(|alive| !alive).await.is_ok(),
                None => false,
            };
            // A watch that has ended says nothing.
            if dead { "no traffic passes".to_owned() } else { std::future::pending().await }
        };
        tokio::select! { how = control => how, how = data => how }
    }
}

impl Element for Heal {
    const NAME: &'static str = "heal";
    const ORDER: Order = Order { after: &["begin", "metadata"], before: &["mechanism", "ipam", "connect"] };

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let (scope, events) = (request.context.scope.clone(), request.context.events.clone());
        let answer = next.request(request).await?;
        let patient = self.patient(&answer, &scope);
        scope.insert(Watching(events.spawn(move |events| patient.care(events))));
        Ok(answer)
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        if close.context.origin != Origin::Event(Kind::Reselect) {
            drop(close.context.scope.take::<Watching>());
        }
        next.close(close).await
    }
}

impl fmt::Debug for Heal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.settings.reselect_after;
        f.debug_struct("Heal").field("reselect_after", &after).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
