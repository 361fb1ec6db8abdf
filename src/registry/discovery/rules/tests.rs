// SPDX-License-Identifier: Apache-2.0

//! Tests the rules, one by one, with a simulated clock.

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

/// A report at the start.
fn report(known: &mut EndpointSet, clock: &Clock, endpoint: NetworkServiceEndpoint, deleted: bool) {
    known.report(endpoint, deleted, clock.after(S(0)));
}

fn names(known: &EndpointSet) -> String {
    known.endpoints().into_keys().collect::<Vec<_>>().join(" ")
}

const DEAD: &(dyn Fn(&str) -> bool + Send + Sync) = &|_| true;
const ALIVE: &(dyn Fn(&str) -> bool + Send + Sync) = &|_| false;

#[test]
fn reports_add_update_and_remove() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules::default());
    report(&mut known, &clock, clock.endpoint("a", S(0)), false);
    report(&mut known, &clock, clock.endpoint("b", S(0)), false);
    assert_eq!(names(&known), "a b");
    let before = known.endpoints();
    report(&mut known, &clock, clock.endpoint("a", S(40)), false);
    assert_eq!(known.endpoints(), before, "a refresh is no change");
    report(
        &mut known,
        &clock,
        NetworkServiceEndpoint { url: "inode://4/2".into(), ..clock.endpoint("a", S(40)) },
        false,
    );
    assert_ne!(known.endpoints(), before, "another socket is");
    report(&mut known, &clock, clock.endpoint("a", S(40)), true);
    report(&mut known, &clock, clock.endpoint("never seen", S(40)), true);
    assert_eq!(names(&known), "b");
}

#[test]
fn an_expiration_before_1970_is_how_old_registries_delete() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules::default());
    report(&mut known, &clock, clock.endpoint("a", S(0)), false);
    let expiration_time = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
    report(
        &mut known,
        &clock,
        NetworkServiceEndpoint { name: "a".into(), expiration_time, ..Default::default() },
        false,
    );
    assert_eq!(names(&known), "");
}

#[test]
fn an_endpoint_leaves_by_lists_only_by_the_table() {
    // seconds at which lists lack it, whether it is dead, whether it still exists afterwards
    #[rustfmt::skip]
    let table: [(&str, &[u64], bool, bool); 8] = [
        ("one list removes nothing", &[30], true, true),
        ("two do, if it is dead", &[30, 60], true, false),
        ("but not if it is alive and not expired", &[30, 60], false, true),
        ("expired by the third", &[30, 60, 90], false, false),
        ("not while the clocks may differ", &[30, 69], false, true),
        ("expired, but seen absent once only", &[90], false, true),
        ("many at once are one", &[30, 31, 32, 33], true, true),
        ("dead, seen absent long enough", &[30, 31, 50], true, false),
    ];
    for (rule, lists, is_dead, stays) in table {
        let clock = Clock::start();
        let mut known = EndpointSet::new(Rules::default());
        report(&mut known, &clock, clock.endpoint("a", S(0)), false);
        for at in lists {
            known.list(vec![], true, clock.after(S(*at)), if is_dead { DEAD } else { ALIVE });
        }
        assert_eq!(names(&known) == "a", stays, "{rule}");
    }
}

#[test]
fn absences_count_only_if_nothing_reported_it_in_between() {
    for by_watch in [true, false] {
        let clock = Clock::start();
        let mut known = EndpointSet::new(Rules::default());
        report(&mut known, &clock, clock.endpoint("a", S(0)), false);
        known.list(vec![], true, clock.after(S(30)), DEAD);
        if by_watch {
            report(&mut known, &clock, clock.endpoint("a", S(40)), false);
        } else {
            known.list(vec![clock.endpoint("a", S(40))], true, clock.after(S(40)), DEAD);
        }
        known.list(vec![], true, clock.after(S(60)), DEAD);
        assert_eq!(names(&known), "a", "by watch: {by_watch}");
        known.list(vec![], true, clock.after(S(90)), DEAD);
        assert_eq!(names(&known), "", "by watch: {by_watch}");
    }
}

/// The endpoint `a` as it registers itself: every 40 s, for a minute by the registry's clock.
fn refreshed(clock: &Clock, at: u64, skew: i64) -> NetworkServiceEndpoint {
    let registry = clock.0.calendar + S(at / 40 * 40) + LIFE;
    let skewed = match u64::try_from(skew) {
        Ok(ahead) => registry - S(ahead), // our clock is ahead of the registry's
        Err(_) => registry + S(skew.unsigned_abs()),
    };
    NetworkServiceEndpoint { expiration_time: Some(skewed.into()), ..clock.endpoint("a", S(0)) }
}

#[test]
fn clocks_that_differ_neither_remove_nor_hide_an_endpoint() {
    for skew in [0, 30, 90, 240, -90, -3600] {
        let clock = Clock::start();
        let mut known = EndpointSet::new(Rules::default());
        for at in (0..600).step_by(10) {
            if at % 40 == 0 {
                known.report(refreshed(&clock, at, skew), false, clock.after(S(at)));
            }
            if at % 30 == 0 {
                known.list(vec![refreshed(&clock, at, skew)], true, clock.after(S(at)), DEAD);
            }
            assert_eq!(names(&known), "a", "{skew} s ahead, after {at} s");
        }
    }
}

#[test]
fn a_jump_of_the_clock_by_an_hour_removes_nothing() {
    for jump in [3600, -3600] {
        let clock = Clock::start();
        let mut known = EndpointSet::new(Rules::default());
        known.report(refreshed(&clock, 0, 0), false, clock.after(S(0)));
        for at in (10..600).step_by(10) {
            if at % 40 == 0 {
                known.report(refreshed(&clock, at, jump), false, clock.after(S(at)));
            }
            let shown = if at % 60 == 0 { vec![] } else { vec![refreshed(&clock, at, jump)] };
            known.list(shown, true, clock.after(S(at)), DEAD);
            assert_eq!(names(&known), "a", "jump by {jump} s, after {at} s");
        }
    }
}

#[test]
fn a_long_expired_endpoint_is_taken_when_it_is_refreshed() {
    for by_watch in [true, false] {
        let clock = Clock::start();
        let mut known = EndpointSet::new(Rules::default());
        let hour = S(3600);
        let show = |known: &mut EndpointSet, endpoint, at: Duration| match by_watch {
            true => known.report(endpoint, false, clock.after(at)),
            false => known.list(vec![endpoint], true, clock.after(at), DEAD),
        };
        for again in 0..5 {
            show(&mut known, clock.endpoint("a", S(0)), hour + S(30 * again));
            assert_eq!((names(&known).as_str(), known.aside().count()), ("", 1), "by watch: {by_watch}");
        }
        show(&mut known, clock.endpoint("a", S(40)), hour + S(200));
        let taken = (names(&known), known.aside().count());
        assert_eq!(taken, ("a".into(), 0), "refreshed, by a clock an hour behind; by watch: {by_watch}");
    }
}

#[test]
fn a_dead_endpoint_that_is_never_refreshed_is_set_aside() {
    // whether it is dead, when a list fails, when it is set aside
    for (dead, interrupted, goes) in
        [(DEAD, None, Some(330)), (ALIVE, None, None), (DEAD, Some(300), Some(630))]
    {
        let clock = Clock::start();
        let mut known = EndpointSet::new(Rules::default());
        report(&mut known, &clock, clock.endpoint("a", S(0)), false);
        for at in (30..=900).step_by(30) {
            match interrupted == Some(at) {
                true => known.interrupt(),
                false => known.list(vec![clock.endpoint("a", S(0))], true, clock.after(S(at)), dead),
            }
            let there = goes.is_none_or(|goes| at < goes);
            assert_eq!(names(&known) == "a", there, "{interrupted:?}, after {at} s");
        }
        known.report(clock.endpoint("a", S(900)), false, clock.after(S(910)));
        assert_eq!(names(&known), "a", "it is registered again");
    }
}

#[test]
fn a_list_without_an_endpoint_set_aside_removes_it() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules::default());
    known.list(vec![clock.endpoint("a", S(0))], true, clock.after(S(3600)), ALIVE);
    known.list(vec![], false, clock.after(S(3630)), ALIVE);
    assert_eq!(known.aside().collect::<Vec<_>>(), ["a"], "a part of a list removes nothing");
    known.list(vec![], true, clock.after(S(3660)), ALIVE);
    assert_eq!(known.aside().count(), 0);
}

#[test]
fn the_dead_are_judged_one_by_one() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules::default());
    for name in ["a", "b"] {
        report(&mut known, &clock, clock.endpoint(name, S(0)), false);
    }
    for at in [10, 40] {
        known.list(vec![], true, clock.after(S(at)), &|name| name == "a");
    }
    assert_eq!(names(&known), "b");
}

#[test]
fn an_endpoint_without_an_expiration_never_expires() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules::default());
    report(
        &mut known,
        &clock,
        NetworkServiceEndpoint { expiration_time: None, ..clock.endpoint("a", S(0)) },
        false,
    );
    for at in [1000, 2000, 3000] {
        known.list(vec![], true, clock.after(S(at)), ALIVE);
    }
    assert_eq!(names(&known), "a");
}

#[test]
fn malformed_or_excess_entries_are_left_out_and_counted() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules { endpoints: 2, ..Rules::default() });
    let far = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    report(
        &mut known,
        &clock,
        NetworkServiceEndpoint { expiration_time: far, ..clock.endpoint("a", S(0)) },
        false,
    );
    report(&mut known, &clock, clock.endpoint("", S(0)), false);
    report(
        &mut known,
        &clock,
        NetworkServiceEndpoint { url: "u".repeat(20_000), ..clock.endpoint("big", S(0)) },
        false,
    );
    report(&mut known, &clock, clock.endpoint("b", S(0)), false);
    report(&mut known, &clock, clock.endpoint("c", S(0)), false);
    assert_eq!((names(&known).as_str(), known.left_out()), ("a b", 3));
    report(&mut known, &clock, clock.endpoint("a", S(1)), false);
    assert_eq!(known.left_out(), 3, "those that are in stay");
    known.list(vec![clock.endpoint("c", S(0))], true, clock.after(S(1)), ALIVE);
    report(&mut known, &clock, clock.endpoint("b", S(0)), true);
    report(&mut known, &clock, clock.endpoint("c", S(0)), false);
    assert_eq!(names(&known), "a c", "a free place is given away again");
}

#[test]
fn a_list_does_not_restore_endpoints_deleted_meanwhile() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules::default());
    report(&mut known, &clock, clock.endpoint("a", S(0)), false);
    known.ask();
    report(&mut known, &clock, clock.endpoint("a", S(0)), true);
    known.list(vec![clock.endpoint("a", S(0))], true, clock.after(S(1)), ALIVE);
    assert_eq!(names(&known), "");
    known.ask();
    known.list(vec![clock.endpoint("a", S(0))], true, clock.after(S(2)), ALIVE);
    assert_eq!(names(&known), "a", "a later list does");
}

#[test]
fn an_endpoint_missing_from_a_partial_list_is_not_absent() {
    let clock = Clock::start();
    let mut known = EndpointSet::new(Rules::default());
    report(&mut known, &clock, clock.endpoint("a", S(0)), false);
    for at in [100, 200, 300] {
        known.list(vec![], false, clock.after(S(at)), DEAD);
    }
    assert_eq!(names(&known), "a");
}
