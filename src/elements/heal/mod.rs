// SPDX-License-Identifier: Apache-2.0

//! Detects that a connection is broken, and requests it again (NSM `heal`).
//!
//! Two things are watched after each Request: over the same wire, whether the peers still have the
//! connection; and, if the settings have a [`Liveness`], whether traffic passes. The rules in
//! `heal/rules.rs` decide how to heal. In short: while the link may carry traffic it is kept and
//! the Request repeated, as a refresh would be; a dead link is made again, to any endpoint of the
//! network service unless the settings keep the same. A link that answers again within 3 s is not
//! dead. Traffic does not wait for any of it: the kernel's reconciler takes it off a link that is
//! gone or silent, and while a peer reports that the connection is down, other links are preferred.
//!
//! `pace` decides when attempts are made.
//!
//! # Order
//! Above everything that a healed connection needs again; below `refresh`.
//!
//! # State
//! The task that watches and heals. A Request that succeeds replaces it; one that fails leaves it.
//! It never closes by itself.
//!
//! # Close
//! The task is stopped before the Close is passed on. The Close at the start of a reselect, which
//! the task itself requested, leaves it.

mod control;
mod liveness;
mod pace;
pub(crate) mod rules;
mod watcher;

use std::{fmt, sync::Arc, time::Duration};

pub use self::liveness::{Doubt, Liveness, Verdict};
use self::{pace::Flaps, watcher::Watcher};
use crate::{
    api::{Connection, pb::connection::MonitorScopeSelector},
    chain::{Close, Element, EventKind, Next, Order, Origin, Request, Result, Scope},
    server::monitor::{self, Ours},
    task::Task,
    transport::Wire,
};

/// Settings for watching and healing.
#[derive(Clone)]
pub struct Settings {
    /// Whether traffic passes. Without it, no link is known to be alive or dead.
    pub liveness: Option<Arc<dyn Liveness>>,
    /// Number of refusals after which a link of unknown state is made again.
    pub reselect_after: u32,
    /// Whether a link is made again to the same endpoint only. Otherwise nsmgr chooses the
    /// endpoint, as by NSM's default, and does so as soon as the former one is reported to be gone.
    pub keep_endpoint: bool,
    /// Longest pause between attempts.
    pub longest_pause: Duration,
    /// Lifetime of the token with which the monitor stream is opened.
    pub token_lifetime: Duration,
}

impl Default for Settings {
    /// No liveness, reselect after 6 refusals (about 6 s), at any endpoint, pauses of up to 12.5 s,
    /// tokens of ten minutes.
    fn default() -> Self {
        Self {
            liveness: None,
            reselect_after: 6,
            keep_endpoint: false,
            longest_pause: pace::LONGEST_REFUSED,
            token_lifetime: Duration::from_secs(600),
        }
    }
}

/// Element that heals.
///
/// ```
/// use nsm::{
///     chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
///     elements::heal::{Heal, Settings},
///     task::Tasks,
/// };
///
/// # fn main() -> Result<(), nsm::chain::InvalidChain> {
/// let heal = Heal::new(Settings::default()); // any endpoint of the network service
/// let begin = BeginLayer::client(Tasks::default());
/// Chain::new().with(begin).with(MetadataLayer).with(heal).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Heal {
    settings: Settings,
    peers: Arc<dyn Peers>,
}

/// The source of the peers' events.
trait Peers: Send + Sync + 'static {
    fn watch(&self, scope: &Scope, selector: MonitorScopeSelector) -> Option<monitor::Events>;
}

/// Events over the wire of the Request.
struct OverWire(Duration);

impl Peers for OverWire {
    fn watch(&self, scope: &Scope, selector: MonitorScopeSelector) -> Option<monitor::Events> {
        Some(monitor::watch(&*scope.get::<Wire>()?, selector, self.0))
    }
}

struct Watching(#[expect(dead_code, reason = "a guard")] Task);

impl Heal {
    /// Heals by these settings.
    pub fn new(settings: Settings) -> Self {
        let peers = Arc::new(OverWire(settings.token_lifetime));
        Self { settings, peers }
    }

    /// The watcher of an answered connection.
    fn watcher(&self, answer: &Connection, scope: &Scope) -> Watcher {
        let ours = Ours::of(answer);
        let events = ours.as_ref().and_then(|ours| self.peers.watch(scope, ours.selector()));
        let flaps = scope.get::<Flaps>().map(|flaps| (*flaps).clone()).unwrap_or_default();
        scope.insert(flaps.clone());
        Watcher::new(answer, ours.zip(events), flaps, &self.settings)
    }
}

impl Element for Heal {
    const NAME: &'static str = "heal";
    const ORDER: Order = Order::STATE.before(&["mechanism", "ipam"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
        let answer = next.request(request).await?;
        let watcher = self.watcher(&answer, &scope);
        scope.insert(Watching(events.spawn(move |events| watcher.run(events))));
        Ok(answer)
    }

    fn withdraw(&self, close: &Close) {
        if close.context.origin != Origin::Event(EventKind::Reselect) {
            drop(close.context.scope.take::<Watching>());
        }
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
