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
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);
    const S: fn(u64) -> Duration = Duration::from_secs;

    struct Clock(Now);

    impl Clock {
        fn start() -> Self {
            Self(Now { at: Instant::now(), calendar: SystemTime::UNIX_EPOCH + S(1_700_000_000) })
        }
        fn after(&self, time: Duration) -> Now {
            Now { at: self.0.at + time, calendar: self.0.calendar + time }
        }
        fn endpoint(&self, name: &str, registered: Duration) -> NetworkServiceEndpoint {
            NetworkServiceEndpoint {
                name: name.into(),
                expiration_time: Some((self.0.calendar + registered + LIFE).into()),
                ..Default::default()
            }
        }
    }

    fn names(known: &State) -> String {
        known.endpoints().into_keys().collect::<Vec<_>>().join(" ")
    }

    const DEAD: &(dyn Fn(&str) -> bool + Send + Sync) = &|_| true;
    const ALIVE: &(dyn Fn(&str) -> bool + Send + Sync) = &|_| false;

    #[test]
    fn reports_add_update_and_remove() {
        let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
        known.report(clock.endpoint("a", S(0)), false);
        known.report(clock.endpoint("b", S(0)), false);
        assert_eq!(names(&known), "a b");
        let before = known.endpoints();
        known.report(clock.endpoint("a", S(40)), false);
        assert_eq!(known.endpoints(), before, "a refresh is no change");
        known.report(
            NetworkServiceEndpoint { url: "inode://4/2".into(), ..clock.endpoint("a", S(40)) },
            false,
        );
        assert_ne!(known.endpoints(), before, "another socket is");
        known.report(clock.endpoint("a", S(40)), true);
        known.report(clock.endpoint("never seen", S(40)), true);
        assert_eq!(names(&known), "b");
    }

    #[test]
    fn an_expiration_before_1970_is_how_old_registries_delete() {
        let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
        known.report(clock.endpoint("a", S(0)), false);
        let expiration_time = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
        known.report(
            NetworkServiceEndpoint { name: "a".into(), expiration_time, ..Default::default() },
            false,
        );
        assert_eq!(names(&known), "");
    }

    #[test]
    fn an_endpoint_leaves_by_pictures_only_by_the_table() {
        // seconds at which pictures lack it, whether it is dead, whether it is still there afterwards
        #[rustfmt::skip]
        let table: [(&str, &[u64], bool, bool); 8] = [
            ("one picture removes nothing", &[30], true, true),
            ("two do, if it is dead", &[30, 60], true, false),
            ("but not if it is alive and not expired", &[30, 60], false, true),
            ("expired by the third", &[30, 60, 90], false, false),
            ("not while the clocks may differ", &[30, 69], false, true),
            ("expired, but seen absent once only", &[90], false, true),
            ("many at once are one", &[30, 31, 32, 33], true, true),
            ("dead, seen absent long enough", &[30, 31, 50], true, false),
        ];
        for (rule, pictures, is_dead, stays) in table {
            let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
            known.report(clock.endpoint("a", S(0)), false);
            for at in pictures {
                known.picture(vec![], true, clock.after(S(*at)), if is_dead { DEAD } else { ALIVE });
            }
            assert_eq!(names(&known) == "a", stays, "{rule}");
        }
    }

    #[test]
    fn absences_count_only_if_nothing_reported_it_in_between() {
        for by_watch in [true, false] {
            let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
            known.report(clock.endpoint("a", S(0)), false);
            known.picture(vec![], true, clock.after(S(30)), DEAD);
            if by_watch {
                known.report(clock.endpoint("a", S(40)), false);
            } else {
                known.picture(vec![clock.endpoint("a", S(40))], true, clock.after(S(40)), DEAD);
            }
            known.picture(vec![], true, clock.after(S(60)), DEAD);
            assert_eq!(names(&known), "a", "by watch: {by_watch}");
            known.picture(vec![], true, clock.after(S(90)), DEAD);
            assert_eq!(names(&known), "", "by watch: {by_watch}");
        }
    }

    #[test]
    fn a_picture_adds_what_the_watch_missed_and_ignores_what_has_long_expired() {
        let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
        let found =
            vec![clock.endpoint("new", S(100)), clock.endpoint("stale", S(0)), clock.endpoint("late", S(35))];
        known.picture(found, true, clock.after(S(100)), ALIVE);
        assert_eq!(names(&known), "late new", "`late` expired 5 s ago, which may be the clock");
    }

    #[test]
    fn the_dead_are_judged_one_by_one() {
        let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
        for name in ["a", "b"] {
            known.report(clock.endpoint(name, S(0)), false);
        }
        for at in [10, 40] {
            known.picture(vec![], true, clock.after(S(at)), &|name| name == "a");
        }
        assert_eq!(names(&known), "b");
    }

    #[test]
    fn an_endpoint_without_an_expiration_never_expires() {
        let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
        known.report(NetworkServiceEndpoint { expiration_time: None, ..clock.endpoint("a", S(0)) }, false);
        for at in [1000, 2000, 3000] {
            known.picture(vec![], true, clock.after(S(at)), ALIVE);
        }
        assert_eq!(names(&known), "a");
    }

    #[test]
    fn what_is_malformed_or_too_much_is_left_out_and_counted() {
        let (clock, mut known) = (Clock::start(), State::new(Rules { endpoints: 2, ..Rules::default() }));
        let far = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        known.report(NetworkServiceEndpoint { expiration_time: far, ..clock.endpoint("a", S(0)) }, false);
        known.report(clock.endpoint("", S(0)), false);
        known
            .report(NetworkServiceEndpoint { url: "u".repeat(20_000), ..clock.endpoint("big", S(0)) }, false);
        known.report(clock.endpoint("b", S(0)), false);
        known.report(clock.endpoint("c", S(0)), false);
        assert_eq!((names(&known).as_str(), known.left_out()), ("a b", 3));
        known.report(clock.endpoint("a", S(1)), false);
        assert_eq!(known.left_out(), 3, "those that are in stay");
        known.picture(vec![clock.endpoint("c", S(0))], true, clock.after(S(1)), ALIVE);
        known.report(clock.endpoint("b", S(0)), true);
        known.report(clock.endpoint("c", S(0)), false);
        assert_eq!(names(&known), "a c", "a free place is given away again");
    }

    #[test]
    fn a_picture_does_not_bring_back_what_was_deleted_while_it_was_taken() {
        let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
        known.report(clock.endpoint("a", S(0)), false);
        known.ask();
        known.report(clock.endpoint("a", S(0)), true);
        known.picture(vec![clock.endpoint("a", S(0))], true, clock.after(S(1)), ALIVE);
        assert_eq!(names(&known), "");
        known.ask();
        known.picture(vec![clock.endpoint("a", S(0))], true, clock.after(S(2)), ALIVE);
        assert_eq!(names(&known), "a", "a later picture does");
    }

    #[test]
    fn what_a_part_of_a_picture_lacks_is_not_absent() {
        let (clock, mut known) = (Clock::start(), State::new(Rules::default()));
        known.report(clock.endpoint("a", S(0)), false);
        for at in [100, 200, 300] {
            known.picture(vec![], false, clock.after(S(at)), DEAD);
        }
        assert_eq!(names(&known), "a");
    }
}
