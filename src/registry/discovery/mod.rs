// SPDX-License-Identifier: Apache-2.0

//! Follows the endpoints of a network service.
//!
//! A watch reports changes at once, but may end at any time and may miss some. So a complete list
//! is read every 30 s and after each end of a watch. [`Rules`] decide which endpoints are removed,
//! and when. Readers always receive a complete set.
//!
//! # Known limits
//! An endpoint that is registered again without this network service stays known until its last
//! expiration.

mod rules;
#[cfg(test)]
mod tests;
mod watcher;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

pub use self::rules::{Endpoints, Rules};
use super::Registry;

/// Returns whether an endpoint that the registry no longer lists is dead: it is not monitored, or
/// its neighbour does not answer. It must not wait.
pub type Dead = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Times and rules of a discovery.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time between two complete lists.
    pub interval: Duration,
    /// First pause before a watch is opened again, and before a failed list is read again. Each
    /// further one is twice as long, with jitter.
    pub first_pause: Duration,
    /// Longest such pause.
    pub longest_pause: Duration,
    /// Duration after which a watch counts as good: the next pause is the first.
    pub good: Duration,
    /// The rules of removal.
    pub rules: Rules,
}

impl Default for Settings {
    /// A list every 30 s; pauses of 0.5 to 5 s.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(5),
            good: Duration::from_secs(10),
            rules: Rules::default(),
        }
    }
}

/// The state of a discovery.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// Endpoints by name.
    pub endpoints: Arc<Endpoints>,
    /// Names that the registry lists although they expired long ago; they are not used until they
    /// are registered again.
    pub aside: BTreeSet<String>,
    /// Whether a complete list has been read: without one, a missing endpoint is not known to be
    /// missing.
    pub complete: bool,
    /// Why the last list could not be read; the endpoints are the previous ones.
    pub failure: Option<String>,
}

/// A complete answer of the registry with at least one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteList {
    /// When the registry was queried.
    pub asked: Instant,
    /// The names of all endpoints in it.
    pub names: BTreeSet<String>,
}

/// The endpoints of a network service, followed for as long as this lives.
pub struct Discovery {
    known: watch::Receiver<Discovered>,
    lists: watch::Receiver<Option<CompleteList>>,
    _task: AbortOnDropHandle<()>,
}

impl Discovery {
    /// Follows the endpoints of the network service `service`, in a task of its own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start<R: Registry>(registry: R, service: &str, dead: Dead, settings: Settings) -> Self {
        let (sender, known) = watch::channel(Discovered::default());
        let (taken, lists) = watch::channel(None);
        let watcher = watcher::Watcher::new(registry, service, dead, settings, (sender, taken));
        Self { known, lists, _task: AbortOnDropHandle::new(tokio::spawn(watcher.follow())) }
    }

    /// The present state, and every change of it. A mere refresh of an endpoint is not a change.
    pub fn known(&self) -> watch::Receiver<Discovered> {
        self.known.clone()
    }

    /// The last complete list, and every later one. An empty or partial answer does not count.
    pub fn lists(&self) -> watch::Receiver<Option<CompleteList>> {
        self.lists.clone()
    }
}
