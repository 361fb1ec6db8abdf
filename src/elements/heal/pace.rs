// SPDX-License-Identifier: Apache-2.0

//! Spaces attempts to heal.
//!
//! 1. The first attempt comes after up to 200 ms, at random: all connections over one nsmgr break
//!    at once.
//! 2. While no peer answers, attempts are 200 ms to 5 s apart. They cost a dial on this machine.
//! 3. While peers refuse, attempts are 200 ms to 12.5 s apart. They start again at 200 ms when a
//!    peer answers after none did.
//! 4. Attempts for a dead link are 12.5 s apart, so that it costs six Requests a minute at most.
//! 5. A connection that breaks again soon after it was healed is flapping: the pause before the
//!    first attempt grows fourfold each time, up to 30 s. That is a circuit breaker, because every
//!    attempt of a flapping connection succeeds. It is reset by a while without a break.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Verdict, rules::Outcome};
use crate::task::Backoff;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST_UNANSWERED: Duration = Duration::from_secs(5);
/// Longest pause between attempts, by default.
pub(super) const LONGEST_REFUSED: Duration = Duration::from_millis(12_500);
const LONGEST_FLAPPING: Duration = Duration::from_secs(30);
/// A connection that lasted this long is not flapping.
const STABLE: Duration = Duration::from_secs(10);
/// Consecutive breaks after which a warning is logged.
const MANY: u32 = 5;

/// How often a connection broke soon after it was healed. Shared by its watchers, one after the
/// other.
#[derive(Clone, Debug, Default)]
pub(super) struct Flaps(Arc<AtomicU32>);

impl Flaps {
    /// Rules 1 and 5: the pause before the first attempt for a connection that was watched since
    /// `since`.
    pub(super) fn pause(&self, since: Instant) -> Duration {
        let flaps = match since.elapsed() >= STABLE {
            true => 0,
            false => self.0.load(Ordering::Relaxed).saturating_add(1),
        };
        self.0.store(flaps, Ordering::Relaxed);
        if flaps >= MANY {
            tracing::warn!(flaps, "the connection breaks again and again, healing slows down");
        }
        let least = if flaps > 1 { 0.8 } else { 0.0 };
        before_first(flaps).mul_f64(rand::random_range(least..1.0))
    }
}

/// Longest pause before the first attempt.
fn before_first(flaps: u32) -> Duration {
    FIRST.saturating_mul(1 << (2 * flaps.saturating_sub(1)).min(16)).min(LONGEST_FLAPPING)
}

/// Pauses between attempts.
#[derive(Debug)]
pub(super) struct Pauses {
    unanswered: Backoff,
    refused: Backoff,
    dead: Backoff,
    last: Outcome,
}

impl Pauses {
    /// Pauses that are no longer than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        let first = FIRST.min(longest);
        Self {
            unanswered: Backoff::new(first, LONGEST_UNANSWERED.min(longest)),
            refused: Backoff::new(first, longest),
            dead: Backoff::new(longest, longest),
            last: Outcome::Refused,
        }
    }

    /// Rules 2 to 4: the pause after an attempt.
    pub(super) fn after(&mut self, outcome: Outcome, verdict: Verdict) -> Duration {
        if std::mem::replace(&mut self.last, outcome) != outcome {
            self.refused.reset();
        }
        match (verdict, outcome) {
            (Verdict::Dead, _) => self.dead.delay(),
            (_, Outcome::Unanswered) => self.unanswered.delay(),
            (_, Outcome::Refused) => self.refused.delay(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flapping_connection_is_healed_with_growing_pauses() {
        let flaps = Flaps::default();
        let mut longest = Duration::ZERO;
        for flap in 1..=12 {
            let pause = flaps.pause(Instant::now());
            assert!(pause <= before_first(flap), "{flap}: {pause:?}");
            assert!(flap < 2 || pause >= before_first(flap).mul_f64(0.8), "{flap}: {pause:?}");
            longest = longest.max(pause);
        }
        assert!(longest >= Duration::from_secs(24) && longest <= LONGEST_FLAPPING, "{longest:?}");
        let since = Instant::now();
        tokio::time::sleep(STABLE).await;
        assert!(flaps.pause(since) <= FIRST);
    }

    #[test]
    fn pauses_grow_by_the_kind_of_failure() {
        use Outcome::{Refused, Unanswered};
        use Verdict::{Alive, Dead, Unknown};
        // error, verdict, milliseconds before jitter
        #[rustfmt::skip]
        let table = [
            (Unanswered, Unknown, 200), (Unanswered, Alive, 400), (Unanswered, Unknown, 800),
            (Unanswered, Unknown, 1600), (Unanswered, Unknown, 3200), (Unanswered, Unknown, 5000), (Unanswered, Unknown, 5000),
            // a restarted manager answers, and has no connections for a while
            (Refused, Unknown, 200), (Refused, Unknown, 400), (Refused, Alive, 800), (Refused, Alive, 1600),
            (Refused, Alive, 3200), (Refused, Alive, 6400), (Refused, Alive, 12_500), (Refused, Alive, 12_500),
            (Refused, Dead, 12_500), (Unanswered, Dead, 12_500),
        ];
        let mut pauses = Pauses::new(LONGEST_REFUSED);
        for (at, (outcome, verdict, expected)) in table.into_iter().enumerate() {
            let pause = pauses.after(outcome, verdict).as_millis();
            assert!((expected * 8 / 10..=expected * 12 / 10).contains(&pause), "row {at}: {pause}");
        }
        let mut pauses = Pauses::new(FIRST);
        for (outcome, verdict, _) in table {
            assert!(pauses.after(outcome, verdict) <= FIRST.mul_f64(1.2), "{outcome:?} {verdict:?}");
        }
    }
}
