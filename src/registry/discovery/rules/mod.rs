// SPDX-License-Identifier: Apache-2.0

//! Maintains the set of known endpoints by these rules:
//!
//! 1. An endpoint reported by the watch or by a list is added, or updated. Names are unique; the
//!    last report counts. A list is as old as its query: it does not bring back an endpoint that
//!    the watch has deleted since.
//! 2. `deleted`, or an expiration before 1970 as older registries send it, removes at once.
//! 3. A complete list that lacks an endpoint counts as an absence. One that lists it does not,
//!    regardless of its expiration: the clocks of the registry and of this node may differ.
//! 4. An endpoint is removed when absent from two consecutive lists that lie
//!    [`settle`](Rules::settle) apart, if in addition it has lapsed or the caller reports that it
//!    is dead. An outage of the registry, or a manager that restarts with an empty registry,
//!    removes nothing.
//! 5. An endpoint lapses when its lifetime has passed since the last report with a new expiration,
//!    by the monotonic clock. The lifetime is the time until the expiration, at least
//!    [`least_life`](Rules::least_life).
//! 6. Registries keep entries of endpoints that ended without unregistering. An endpoint whose
//!    expiration is [`stale`](Rules::stale) when it is first reported is set aside, and so is a
//!    dead one that has lapsed and that lists have listed unchanged for that long. It is used
//!    again when its expiration changes, which means that it is alive, regardless of the clocks.
//! 7. A report that is malformed or beyond the bounds is left out and counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message;
use tokio::time::Instant;

use crate::api::pb::registry::NetworkServiceEndpoint;

/// Bounds and times of the rules.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Maximum number of known endpoints. Further ones are left out.
    pub endpoints: usize,
    /// Maximum size of one endpoint's message, in bytes.
    pub bytes: usize,
    /// Difference allowed between the clocks of nodes before an endpoint counts as lapsed.
    pub slack: Duration,
    /// Shortest lifetime of a registration; an expiration that leaves less is of another clock.
    pub least_life: Duration,
    /// Age of an expiration beyond which differing clocks do not explain it.
    pub stale: Duration,
    /// Least time between the two lists that lack an endpoint.
    pub settle: Duration,
}

impl Default for Rules {
    /// 1,024 endpoints of 16 KiB; 10 s between clocks; lives of a minute; stale after five; 20 s
    /// between lists.
    fn default() -> Self {
        Self {
            endpoints: 1024,
            bytes: 16 << 10,
            slack: Duration::from_secs(10),
            least_life: Duration::from_secs(60),
            stale: Duration::from_secs(300),
            settle: Duration::from_secs(20),
        }
    }
}

/// The time, as the rules need it: on the monotonic clock, and on the calendar of expirations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) calendar: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { at: Instant::now(), calendar: SystemTime::now() }
    }
}

/// Endpoints by name. Without their expirations, so that a mere refresh changes nothing.
pub type Endpoints = BTreeMap<String, Arc<NetworkServiceEndpoint>>;

struct Entry {
    endpoint: Arc<NetworkServiceEndpoint>,
    expires: Option<SystemTime>,
    /// When it lapses unless its expiration changes (rule 5).
    lapses: Option<Instant>,
    /// When the first of the latest consecutive lists without it was taken.
    absent: Option<Instant>,
    /// When the first of the latest consecutive lists that repeat its expiration was taken.
    repeated: Option<Instant>,
}

/// The endpoints known so far.
pub(super) struct EndpointSet {
    rules: Rules,
    entries: BTreeMap<String, Entry>,
    /// Endpoints set aside, with their expirations (rule 6).
    aside: BTreeMap<String, Option<SystemTime>>,
    /// Names deleted since the query of the list that is being read.
    deleted: BTreeSet<String>,
    left_out: u64,
}

impl EndpointSet {
    pub(super) fn new(rules: Rules) -> Self {
        let entries = BTreeMap::new();
        let aside = BTreeMap::new();
        Self { rules, entries, aside, deleted: BTreeSet::new(), left_out: 0 }
    }

    /// Rules 1 and 2: takes a report of the watch.
    pub(super) fn report(&mut self, endpoint: NetworkServiceEndpoint, deleted: bool, now: Now) {
        if deleted || endpoint.expiration_time.is_some_and(|at| at.seconds < 0) {
            let aside = self.aside.remove(&endpoint.name).is_some();
            if self.entries.remove(&endpoint.name).is_some() || aside {
                self.deleted.insert(endpoint.name);
            }
        } else {
            self.deleted.remove(&endpoint.name);
            self.accept(endpoint, now);
        }
    }

    /// Marks the query of a list.
    pub(super) fn ask(&mut self) {
        self.deleted.clear();
    }

    /// Marks a failed list: those before and after it are not consecutive.
    pub(super) fn interrupt(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.repeated = None);
    }

    /// Rules 1, 3, 4 and 6: takes a list. Unless it is `whole`, a missing endpoint does not
    /// count as absent.
    pub(super) fn list(
        &mut self,
        mut found: Vec<NetworkServiceEndpoint>,
        whole: bool,
        now: Now,
        dead: &(dyn Fn(&str) -> bool + Send + Sync),
    ) {
        found.retain(|endpoint| !self.deleted.contains(&endpoint.name));
        if whole {
            self.aside.retain(|name, _| found.iter().any(|endpoint| endpoint.name == *name));
            self.entries.values_mut().for_each(|entry| _ = entry.absent.get_or_insert(now.at));
        }
        for endpoint in found {
            let name = endpoint.name.clone();
            if !self.accept(endpoint, now)
                && let Some(entry) = self.entries.get_mut(&name)
            {
                entry.repeated.get_or_insert(now.at);
            }
        }
        let Rules { settle, stale, .. } = self.rules;
        self.entries.retain(|name, entry| {
            let since = |first: Option<Instant>, time| first.is_some_and(|at| now.at >= at + time);
            let lapsed = since(entry.lapses, Duration::ZERO);
            let removed = whole && since(entry.absent, settle) && (lapsed || dead(name));
            let set_aside = !removed && lapsed && since(entry.repeated, stale) && dead(name);
            if set_aside {
                self.aside.insert(name.clone(), entry.expires);
            }
            !removed && !set_aside
        });
    }

    /// The set to publish.
    pub(super) fn endpoints(&self) -> Endpoints {
        self.entries.iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.endpoint))).collect()
    }

    /// Names of the endpoints that are set aside.
    pub(super) fn aside(&self) -> impl Iterator<Item = &str> {
        self.aside.keys().map(String::as_str)
    }

    /// Reports left out by rule 7.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes a report. Returns whether its expiration is a new one.
    fn accept(&mut self, mut endpoint: NetworkServiceEndpoint, now: Now) -> bool {
        let name = endpoint.name.clone();
        let known = self.entries.contains_key(&name) || self.aside.contains_key(&name);
        let full = !known && self.entries.len() + self.aside.len() >= self.rules.endpoints;
        if full || name.is_empty() || endpoint.encoded_len() > self.rules.bytes {
            self.left_out += 1;
            return false;
        }
        let expires = expires(&endpoint);
        endpoint.expiration_time = None;
        let endpoint = Arc::new(endpoint);
        if let Some(known) = self.entries.get_mut(&name).filter(|known| known.expires == expires) {
            (known.endpoint, known.absent) = (endpoint, None);
            return false;
        }
        if !self.entries.contains_key(&name) && self.is_stale(&name, expires, now) {
            self.aside.insert(name, expires);
            return false;
        }
        self.aside.remove(&name);
        let lapses = self.lapses(expires, now);
        self.entries.insert(name, Entry { endpoint, expires, lapses, absent: None, repeated: None });
        true
    }

    /// Rule 6, for an endpoint that is not known.
    fn is_stale(&self, name: &str, expires: Option<SystemTime>, now: Now) -> bool {
        match self.aside.get(name) {
            Some(before) => *before == expires,
            None => expires.is_some_and(|at| at + self.rules.stale < now.calendar),
        }
    }

    /// Rule 5.
    fn lapses(&self, expires: Option<SystemTime>, now: Now) -> Option<Instant> {
        let Rules { least_life, slack, .. } = self.rules;
        let life = expires?.duration_since(now.calendar).unwrap_or_default();
        now.at.checked_add(life.max(least_life) + slack)
    }
}

/// The expiration; `None` if absent, or out of the range of this machine's calendar.
fn expires(endpoint: &NetworkServiceEndpoint) -> Option<SystemTime> {
    let at = SystemTime::try_from(endpoint.expiration_time?).ok()?;
    at.checked_add(Duration::from_secs(1 << 32)).map(|_| at) // room for the slack
}

#[cfg(test)]
mod tests;
