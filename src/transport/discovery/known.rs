// SPDX-License-Identifier: Apache-2.0

//! Keep the set of known endpoints true, by these rules:
//!
//! 1. An endpoint reported by the watch or by a picture is added, or updated. Names are unique; the last report counts. A picture is
//!    as old as its question: it does not bring back what the watch has deleted since.
//! 2. `deleted`, or an expiration before 1970 as older registries send it, removes at once.
//! 3. A whole picture that lacks an endpoint counts as an absence; so does one that shows it with an expiration long past.
//! 4. An endpoint is removed when absent from two consecutive pictures that lie [`settle`](Rules::settle) apart, if in addition its
//!    last expiration has passed or the caller says that it is dead. An outage of the registry, or a manager that restarts and knows
//!    nobody yet, removes nothing.
//! 5. What is malformed or beyond the bounds is left out and counted.

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
    /// Endpoints known at once. Further ones are left out.
    pub endpoints: usize,
    /// Bytes of one endpoint's message.
    pub bytes: usize,
    /// Difference allowed between the clocks of nodes before an expiration counts as passed.
    pub slack: Duration,
    /// Least time between the two pictures that lack an endpoint.
    pub settle: Duration,
}

impl Default for Rules {
    /// 1,024 endpoints of 16 KiB; 10 s between clocks; 20 s between pictures.
    fn default() -> Self {
        Self {
            endpoints: 1024,
            bytes: 16 << 10,
            slack: Duration::from_secs(10),
            settle: Duration::from_secs(20),
        }
    }
}

/// The time, as far as the rules need it: measured here, and on the calendar that expirations use.
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
    /// When the first of the latest consecutive pictures without it was taken.
    absent: Option<Instant>,
}

/// The endpoints known so far.
pub(super) struct State {
    rules: Rules,
    entries: BTreeMap<String, Entry>,
    /// Names deleted since the picture that is being taken was asked for.
    deleted: BTreeSet<String>,
    left_out: u64,
}

impl State {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, entries: BTreeMap::new(), deleted: BTreeSet::new(), left_out: 0 }
    }

    /// Rules 1 and 2: take a report of the watch.
    pub(super) fn report(&mut self, endpoint: NetworkServiceEndpoint, deleted: bool) {
        if deleted || endpoint.expiration_time.is_some_and(|at| at.seconds < 0) {
            if self.entries.remove(&endpoint.name).is_some() {
                self.deleted.insert(endpoint.name);
            }
        } else {
            self.deleted.remove(&endpoint.name);
            self.accept(endpoint);
        }
    }

    /// A picture is asked for.
    pub(super) fn ask(&mut self) {
        self.deleted.clear();
    }

    /// Rules 1, 3 and 4: take the picture. Unless it is `whole`, what it lacks is not known to be absent.
    pub(super) fn picture(
        &mut self,
        found: Vec<NetworkServiceEndpoint>,
        whole: bool,
        now: Now,
        dead: &(dyn Fn(&str) -> bool + Send + Sync),
    ) {
        let live =
            |e: &NetworkServiceEndpoint| !self.passed(expires(e), now) && !self.deleted.contains(&e.name);
        let present: Vec<_> = found.into_iter().filter(live).collect();
        for entry in self.entries.values_mut().filter(|_| whole) {
            entry.absent.get_or_insert(now.at);
        }
        for endpoint in present {
            self.accept(endpoint);
        }
        let Rules { settle, .. } = self.rules;
        let over = |name: &String, entry: &Entry| {
            let twice = entry.absent.is_some_and(|since| now.at.duration_since(since) >= settle);
            whole && twice && (self.passed(entry.expires, now) || dead(name))
        };
        let over: Vec<_> =
            self.entries.iter().filter(|(name, entry)| over(name, entry)).map(|(n, _)| n.clone()).collect();
        for name in over {
            self.entries.remove(&name);
        }
    }

    /// The set to show.
    pub(super) fn endpoints(&self) -> Endpoints {
        self.entries.iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.endpoint))).collect()
    }

    /// Reports left out by rule 5.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    fn accept(&mut self, mut endpoint: NetworkServiceEndpoint) {
        let full = self.entries.len() >= self.rules.endpoints && !self.entries.contains_key(&endpoint.name);
        if full || endpoint.name.is_empty() || endpoint.encoded_len() > self.rules.bytes {
            self.left_out += 1;
            return;
        }
        let expires = expires(&endpoint);
        endpoint.expiration_time = None;
        let name = endpoint.name.clone();
        self.entries.insert(name, Entry { endpoint: Arc::new(endpoint), expires, absent: None });
    }

    fn passed(&self, expires: Option<SystemTime>, now: Now) -> bool {
        expires.is_some_and(|at| at + self.rules.slack < now.calendar)
    }
}

/// The expiration; `None` if absent, or beyond what the calendar of this machine holds.
fn expires(endpoint: &NetworkServiceEndpoint) -> Option<SystemTime> {
    let at = SystemTime::try_from(endpoint.expiration_time?).ok()?;
    at.checked_add(Duration::from_secs(1 << 32)).map(|_| at) // room for the slack
}

#[cfg(test)]
mod tests;
