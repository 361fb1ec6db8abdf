// SPDX-License-Identifier: Apache-2.0

//! Decide what to do about one lease: which call to make to the address service, and when.
//!
//! ```text
//!        acquire          Allocate ok        last holder gone            Release ok
//!   Free ───────▶ Wanted ────────────▶ Held ─────────────────▶ Releasing ──────────▶ Free
//!                   ▲                   ▲                         │   │
//!                   │                   └─ acquire before Release ┘   │
//!                   └─────────────────── acquire during Release ──────┘
//! ```
//! 1. At most one call is made for a name at a time. What is decided meanwhile waits until it has ended: an Allocate never
//!    overtakes a Release of the same name.
//! 2. Wanted: Allocate, one call per family for all callers. Held: Renew when due. Releasing: Release when due.
//! 3. A lease that is held, or released but not given back yet, is granted without a call.
//! 4. An Allocate that succeeds when no caller is left is kept as if its last holder had just gone.
//! 5. An Allocate that fails is rolled back like a lease whose last holder has just gone, unless nothing can have been allocated
//!    since the last Release. The delay leaves a previous holder of the name, known to the address service only, time to ask again.
//! 6. From the start of a Release its addresses are not ours. A Release that fails is tried again, unless somebody wants the lease.
//! 7. A Release that failed may still take effect later. The lease that follows is *doubtful*: renew it early.
//! 8. A Renew that answers differently changes nothing for the holders; the next caller gets the new addresses.
//! 9. A Renew that fails is tried again; the lease stays held.

use ipnet::IpNet;
use tokio::time::Instant;

use super::AllocateError;
use crate::api::{Dual, Family};

/// What should be true of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Wanted,
    Held { holders: usize },
    Releasing { at: Instant },
}

/// A call to the address service, for all families of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Allocate,
    Renew,
    Release,
}

/// The answer of each family.
pub(super) type Answers = Dual<Result<IpNet, AllocateError>>;

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    call: Option<Call>,
    addresses: Option<Dual<IpNet>>,
    moved: Option<Dual<IpNet>>,
    renew_at: Option<Instant>,
    /// Something may be allocated under the name.
    owed: bool,
    /// A Release that failed may still take effect.
    pub(super) doubtful: bool,
}

impl State {
    pub(super) const FREE: Self = Self {
        phase: Phase::Free,
        call: None,
        addresses: None,
        moved: None,
        renew_at: None,
        owed: false,
        doubtful: false,
    };

    /// Whether nothing needs to be remembered.
    pub(super) fn is_free(&self) -> bool {
        self.phase == Phase::Free && self.call.is_none()
    }

    /// The addresses in use.
    pub(super) fn addresses(&self) -> Option<Dual<IpNet>> {
        self.addresses
    }

    /// The addresses that a renewal answered in place of those held.
    pub(super) fn moved(&self) -> Option<Dual<IpNet>> {
        self.moved
    }

    /// A caller asks. Some: granted, with one holder more. None: the caller has to wait for `allocated`.
    pub(super) fn acquire(&mut self) -> Option<Dual<IpNet>> {
        let Some(addresses) = self.moved.take().or(self.addresses) else {
            self.phase = Phase::Wanted;
            return None;
        };
        let holders = if let Phase::Held { holders } = self.phase { holders } else { 0 };
        self.phase = Phase::Held { holders: holders + 1 };
        self.addresses = Some(addresses);
        self.addresses
    }

    /// A holder is gone.
    pub(super) fn dropped(&mut self, release_at: Instant) {
        if let Phase::Held { holders } = self.phase {
            self.phase = match holders.saturating_sub(1) {
                0 => Phase::Releasing { at: release_at },
                holders => Phase::Held { holders },
            };
        }
    }

    /// The call to make now, if any. It counts as made until one of the next three is called.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Call> {
        let due = self.phase == Phase::Wanted || self.wake().is_some_and(|at| at <= now);
        if self.call.is_some() || !due {
            return None;
        }
        self.call = match self.phase {
            Phase::Free => None,
            Phase::Wanted => Some(Call::Allocate),
            Phase::Held { .. } => Some(Call::Renew),
            Phase::Releasing { .. } => {
                (self.addresses, self.moved) = (None, None);
                Some(Call::Release)
            }
        };
        self.call
    }

    /// When `begin` has to be called again, if nothing happens before.
    pub(super) fn wake(&self) -> Option<Instant> {
        match self.phase {
            _ if self.call.is_some() => None,
            Phase::Free | Phase::Wanted => None,
            Phase::Held { .. } => self.renew_at,
            Phase::Releasing { at } => Some(at),
        }
    }

    /// An Allocate has ended, with this many callers waiting. Ok: each of them is a holder now. Error: that of the first family
    /// that failed.
    pub(super) fn allocated(
        &mut self,
        answers: &Answers,
        waiting: usize,
        release_at: Instant,
    ) -> Result<Dual<IpNet>, (Family, AllocateError)> {
        self.call = None;
        let whole: Result<Dual<IpNet>, _> = answers
            .iter()
            .map(|(family, answer)| Ok((family, answer.clone().map_err(|e| (family, e))?)))
            .collect();
        self.addresses = whole.as_ref().ok().copied();
        let allocated =
            |answer: &Result<IpNet, AllocateError>| answer.as_ref().err().is_none_or(|e| e.is_doubtful());
        self.owed |= answers.iter().any(|(_, answer)| allocated(answer));
        self.phase = match waiting {
            holders if whole.is_ok() && holders > 0 => Phase::Held { holders },
            _ if self.owed => Phase::Releasing { at: release_at },
            _ => Phase::Free,
        };
        whole
    }

    /// Renew next at this time.
    pub(super) fn renew_at(&mut self, at: Instant) {
        self.renew_at = Some(at);
    }

    /// Renew next at this time or before.
    pub(super) fn renew_by(&mut self, at: Instant) {
        self.renew_at = self.renew_at.map(|before| before.min(at));
    }

    /// A Renew has ended. True: the answer differs from what was known.
    pub(super) fn renewed(&mut self, answers: &Answers) -> bool {
        self.call = None;
        self.doubtful = false;
        let before = self.moved.or(self.addresses);
        let (Some(mut now), Some(held)) = (before, self.addresses) else {
            return false;
        };
        for (family, answer) in answers.iter() {
            if let Ok(address) = answer {
                *now.slot(family) = Some(*address);
            }
        }
        self.moved = (now != held).then_some(now);
        self.moved.is_some() && before != self.moved
    }

    /// A Release has ended, with this many callers waiting.
    pub(super) fn released(&mut self, ok: bool, waiting: usize, retry_at: Instant) {
        self.call = None;
        (self.owed, self.doubtful) = (!ok, !ok);
        self.phase = match (self.phase, ok) {
            (Phase::Wanted, _) if waiting > 0 => Phase::Wanted,
            (_, true) => Phase::Free,
            (_, false) => Phase::Releasing { at: retry_at },
        };
    }

    /// Release what is waiting for its time now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Phase::Releasing { at } = &mut self.phase {
            *at = now.min(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What happens to a lease.
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

    /// The phase, and in brackets the call in flight, after some events. Calls begin when they can; a Renew is due every 600 s.
    fn after(events: &[Event]) -> String {
        let (mut state, start) = (State::FREE, Instant::now());
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
            // 2: one Allocate for all who ask meanwhile.
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
            // 4: nobody left.
            (&[Acquire, Allocated { v4: true, v6: true, waiting: 0 }], "Releasing in 20"),
            (&[Acquire, Allocated { v4: true, v6: true, waiting: 0 }, Acquire], "Held by 1"),
            // 5: a roll back, where there is something to roll back.
            (&[Acquire, none], "Free"),
            (&[Acquire, partial], "Releasing in 20"),
            (&[Acquire, partial, Acquire], "Wanted [Allocate]"),
            (&[Acquire, partial, Acquire, none], "Releasing in 20"),
            (&[Acquire, partial, Pass(20), free, Acquire, none], "Free"),
            // 6, 7: an acquire during a Release waits for its end, whatever that is.
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
}
