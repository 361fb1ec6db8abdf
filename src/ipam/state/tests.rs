// SPDX-License-Identifier: Apache-2.0

//! Tests the rules as a table: events, and the resulting state.

use std::time::Duration;

use super::*;

/// An event of a lease.
#[derive(Clone, Copy, Debug)]
enum Event {
    Acquire,
    Dropped,
    Allocated {
        v4: bool,
        v6: bool,
        waiting: usize,
    },
    Renewed(u8),
    RenewFailed,
    Released {
        ok: bool,
        waiting: usize,
    },
    /// Seconds pass.
    Pass(u64),
}
use Event::*;

const DELAY: u64 = 20;
const ALLOCATED: Event = Allocated { v4: true, v6: true, waiting: 1 };

fn answers(v4: bool, v6: bool, last: u8) -> Answers {
    let refused = || Err(AllocateError::Refused("no".into()));
    let address = |text: String| Ok(text.parse().unwrap());
    Dual {
        v4: Some(if v4 { address(format!("10.0.0.{last}/24")) } else { refused() }),
        v6: Some(if v6 { address(format!("fd00::{last}/64")) } else { refused() }),
    }
}

/// The phase, and in brackets the call in flight, after some events. Calls begin when they can; a
/// Renew is due every 600 s.
fn after(events: &[Event]) -> String {
    let mut state = State::FREE;
    let start = Instant::now();
    let mut now = start;
    for event in events {
        let release_at = now + Duration::from_secs(DELAY);
        match *event {
            Acquire => drop(state.acquire()),
            Dropped => state.dropped(release_at),
            Allocated { v4, v6, waiting } => {
                let granted = state.allocated(&answers(v4, v6, 1), waiting, release_at);
                assert_eq!(granted.is_ok(), v4 && v6);
                state.renew_at(now + Duration::from_secs(600));
            }
            Renewed(last) => {
                state.renewed(&answers(true, true, last));
                state.renew_at(now + Duration::from_secs(600));
            }
            RenewFailed => {
                state.renewed(&answers(false, false, 1));
                state.renew_at(now + Duration::from_secs(2));
            }
            Released { ok, waiting } => state.released(ok, waiting, now + Duration::from_secs(2)),
            Pass(seconds) => now += Duration::from_secs(seconds),
        }
        state.begin(now);
        assert_eq!(state.begin(now), None, "rule 1: one call at a time");
    }
    let call = state.call.map(|call| format!(" [{call:?}]")).unwrap_or_default();
    let phase = match state.phase {
        Phase::Releasing { at } => format!("Releasing in {}", (at - now).as_secs()),
        Phase::Held { holders } => format!("Held by {holders}"),
        Phase::Free | Phase::Wanted => format!("{:?}", state.phase),
    };
    let moved = if state.moved.is_some() { " moved" } else { "" };
    let doubtful = if state.doubtful { " doubtful" } else { "" };
    format!("{phase}{call}{moved}{doubtful}")
}

#[test]
fn the_life_of_a_lease() {
    let free = Released { ok: true, waiting: 0 };
    let failed = Released { ok: false, waiting: 0 };
    let none = Allocated { v4: false, v6: false, waiting: 1 };
    let partial = Allocated { v4: true, v6: false, waiting: 1 };
    let table: &[(&[Event], &str)] = &[
        (&[], "Free"),
        // 2: one Allocate for all callers that arrive meanwhile.
        (&[Acquire], "Wanted [Allocate]"),
        (&[Acquire, Acquire], "Wanted [Allocate]"),
        (&[Acquire, ALLOCATED], "Held by 1"),
        (&[Acquire, Allocated { v4: true, v6: true, waiting: 3 }], "Held by 3"),
        // 3: no call while the addresses are ours.
        (&[Acquire, ALLOCATED, Acquire], "Held by 2"),
        (&[Acquire, ALLOCATED, Acquire, Dropped], "Held by 1"),
        (&[Acquire, ALLOCATED, Dropped], "Releasing in 20"),
        (&[Acquire, ALLOCATED, Dropped, Pass(19)], "Releasing in 1"),
        (&[Acquire, ALLOCATED, Dropped, Pass(19), Acquire, Pass(100)], "Held by 1"),
        (&[Acquire, ALLOCATED, Dropped, Pass(20)], "Releasing in 0 [Release]"),
        (&[Acquire, ALLOCATED, Dropped, Pass(20), free], "Free"),
        // 4: no caller left.
        (&[Acquire, Allocated { v4: true, v6: true, waiting: 0 }], "Releasing in 20"),
        (&[Acquire, Allocated { v4: true, v6: true, waiting: 0 }, Acquire], "Held by 1"),
        // 5: a rollback, if something may be allocated.
        (&[Acquire, none], "Free"),
        (&[Acquire, partial], "Releasing in 20"),
        (&[Acquire, partial, Acquire], "Wanted [Allocate]"),
        (&[Acquire, partial, Acquire, none], "Releasing in 20"),
        (&[Acquire, partial, Pass(20), free, Acquire, none], "Free"),
        // 6, 7: an acquire during a Release waits for its end, successful or not.
        (&[Acquire, ALLOCATED, Dropped, Pass(20), Acquire], "Wanted [Release]"),
        (
            &[Acquire, ALLOCATED, Dropped, Pass(20), Acquire, Released { ok: true, waiting: 1 }],
            "Wanted [Allocate]",
        ),
        (
            &[Acquire, ALLOCATED, Dropped, Pass(20), Acquire, Released { ok: false, waiting: 1 }],
            "Wanted [Allocate] doubtful",
        ),
        (&[Acquire, ALLOCATED, Dropped, Pass(20), Acquire, free], "Free"),
        (&[Acquire, ALLOCATED, Dropped, Pass(20), failed], "Releasing in 2 doubtful"),
        (&[Acquire, ALLOCATED, Dropped, Pass(20), failed, Pass(2)], "Releasing in 0 [Release] doubtful"),
        (&[Acquire, ALLOCATED, Dropped, Pass(20), failed, Acquire], "Wanted [Allocate] doubtful"),
        (&[Acquire, ALLOCATED, Dropped, Pass(20), failed, Acquire, ALLOCATED], "Held by 1 doubtful"),
        (
            &[Acquire, ALLOCATED, Dropped, Pass(20), failed, Acquire, ALLOCATED, Pass(600), Renewed(1)],
            "Held by 1",
        ),
        // 8, 9: renewals.
        (&[Acquire, ALLOCATED, Pass(599)], "Held by 1"),
        (&[Acquire, ALLOCATED, Pass(600)], "Held by 1 [Renew]"),
        (&[Acquire, ALLOCATED, Pass(600), Renewed(1)], "Held by 1"),
        (&[Acquire, ALLOCATED, Pass(600), Renewed(9)], "Held by 1 moved"),
        (&[Acquire, ALLOCATED, Pass(600), Renewed(9), Acquire], "Held by 2"),
        (&[Acquire, ALLOCATED, Pass(600), Renewed(9), Pass(600), Renewed(1)], "Held by 1"),
        (&[Acquire, ALLOCATED, Pass(600), RenewFailed], "Held by 1"),
        (&[Acquire, ALLOCATED, Pass(600), RenewFailed, Pass(2)], "Held by 1 [Renew]"),
        // 1: a Release waits for a Renew.
        (&[Acquire, ALLOCATED, Pass(600), Dropped, Pass(20)], "Releasing in 0 [Renew]"),
        (&[Acquire, ALLOCATED, Pass(600), Dropped, Pass(20), Renewed(1)], "Releasing in 0 [Release]"),
        (&[Acquire, ALLOCATED, Pass(600), Dropped, Acquire, Pass(20), Renewed(1)], "Held by 1"),
    ];
    for (events, expected) in table {
        assert_eq!(after(events), *expected, "{events:?}");
    }
}

#[test]
fn the_next_caller_gets_the_addresses_that_a_renewal_answered() {
    let mut state = State::FREE;
    let now = Instant::now();
    assert_eq!(state.acquire(), None);
    let first = state.allocated(&answers(true, true, 1), 1, now).unwrap();
    assert!(state.renewed(&Dual { v6: None, ..answers(true, true, 9) }), "one family is enough");
    assert!(!state.renewed(&Dual { v6: None, ..answers(true, true, 9) }), "said once");
    assert_eq!(state.addresses(), Some(first), "those in use stay");
    let next = state.acquire().unwrap();
    assert_eq!((next.v4.unwrap().to_string().as_str(), next.v6), ("10.0.0.9/24", first.v6));
}
