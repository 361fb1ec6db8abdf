// SPDX-License-Identifier: Apache-2.0

//! The rules, one by one, by a clock of the test's own.

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
    known.report(NetworkServiceEndpoint { url: "inode://4/2".into(), ..clock.endpoint("a", S(40)) }, false);
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
    known.report(NetworkServiceEndpoint { name: "a".into(), expiration_time, ..Default::default() }, false);
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
    known.report(NetworkServiceEndpoint { url: "u".repeat(20_000), ..clock.endpoint("big", S(0)) }, false);
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
