// SPDX-License-Identifier: Apache-2.0

//! Delays between attempts that grow with each failure and differ between processes.

use std::time::Duration;

use tokio::time::sleep;

/// Delays between attempts: doubling from a first one to a longest one, each with ± 20 % jitter.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::task::Backoff;
///
/// let mut pauses = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// assert!(pauses.delay() <= Duration::from_millis(600));
/// assert!(pauses.delay() >= Duration::from_millis(800));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first` to `longest`, before jitter.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first.min(longest) }
    }

    /// The delay before the next attempt, at most 1.2 × the longest.
    pub fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.longest);
        delay.mul_f64(rand::random_range(0.8..1.2))
    }

    /// Waits for the delay before the next attempt. Cancel-safe.
    pub async fn wait(&mut self) {
        sleep(self.delay()).await;
    }

    /// Starts again from the first delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

/// A time with ± 10 % jitter, for what recurs in many processes or connections at once.
pub fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_until_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for expected in [100, 200, 350, 350] {
            let delay = backoff.delay().as_millis();
            assert!((expected * 8 / 10..=expected * 12 / 10).contains(&delay), "{delay} for {expected}");
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(120));
    }
}
