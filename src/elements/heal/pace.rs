// SPDX-License-Identifier: Apache-2.0

//! Space attempts to heal.
//!
//! 1. The first attempt comes after up to 200 ms, at random: all connections over one nsmgr break at once.
//! 2. After a failure the pause is 200 ms, and twice as long each further time, up to 5 s.
//! 3. A connection that breaks again soon after it was healed is flapping: the pause before the first attempt doubles each time, up to
//!    30 s. That is a breaker, since every attempt of a flapping connection succeeds. It is reset by a while without a break.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::transport::Backoff;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);
const LONGEST_FLAPPING: Duration = Duration::from_secs(30);
/// A connection that held this long is not flapping.
const STABLE: Duration = Duration::from_secs(10);
/// Breaks in a row after which it is said aloud.
const LOUD: u32 = 5;

/// How often a connection broke soon after it was healed. Shared by its watchers, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Flaps(Arc<AtomicU32>);

impl Flaps {
    /// Rules 1 and 3: the pause before the first attempt for a connection that was watched since `since`.
    pub(super) fn pause(&self, since: Instant) -> Duration {
        let flaps = match since.elapsed() >= STABLE {
            true => 0,
            false => self.0.load(Ordering::Relaxed).saturating_add(1),
        };
        self.0.store(flaps, Ordering::Relaxed);
        if flaps >= LOUD {
            tracing::warn!(flaps, "the connection breaks again and again, healing slows down");
        }
        before_first(flaps).mul_f64(rand::random_range(0.0..1.0_f64).max(if flaps > 1 { 0.8 } else { 0.0 }))
    }
}

/// Longest pause before the first attempt.
fn before_first(flaps: u32) -> Duration {
    FIRST.saturating_mul(1 << flaps.saturating_sub(1).min(16)).min(LONGEST_FLAPPING)
}

/// Rule 2.
pub(super) fn after_failures() -> Backoff {
    Backoff::new(FIRST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flapping_connection_is_healed_more_and_more_rarely_until_it_holds() {
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
}
