// SPDX-License-Identifier: Apache-2.0

//! Counts recurring causes, so that each is logged once a minute however often it occurs.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Time for which a cause is counted after it was logged.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Number of causes that are distinguished; all others are one.
const CAUSES: usize = 16;
/// Maximum length of a cause's text, in characters.
const MAX_CAUSE: usize = 256;
const OTHERS: &str = "other causes";

/// Causes of one kind of event. Peers influence their texts, so number and length are bounded.
#[derive(Default)]
pub(crate) struct Tally {
    counts: BTreeMap<String, Count>,
    due: Option<Pin<Box<Sleep>>>,
}

struct Count {
    until: Instant,
    more: u64,
}

impl Tally {
    /// Counts one event. Returns the cause if it should be logged now: the first in a minute.
    pub(crate) fn note(&mut self, cause: &str) -> Option<String> {
        let mut cause: String = cause.chars().take(MAX_CAUSE).collect();
        if self.counts.len() >= CAUSES && !self.counts.contains_key(&cause) {
            OTHERS.clone_into(&mut cause);
        }
        let now = Instant::now();
        match self.counts.get_mut(&cause) {
            Some(count) if count.more > 0 || count.until > now => {
                count.more += 1;
                None
            }
            _ => {
                self.counts.insert(cause.clone(), Count { until: now + WINDOW, more: 0 });
                Some(cause)
            }
        }
    }

    /// The next cause that recurred, a minute after it was logged, and how often it did since.
    pub(crate) fn poll_recurred(&mut self, cx: &mut Context<'_>) -> Poll<(String, u64)> {
        loop {
            let Some((cause, count)) = self.counts.iter_mut().min_by_key(|(_, count)| count.until) else {
                self.due = None;
                return Poll::Pending;
            };
            let due = self.due.get_or_insert_with(|| Box::pin(sleep_until(count.until)));
            if due.deadline() != count.until {
                due.as_mut().reset(count.until);
            }
            ready!(due.as_mut().poll(cx));
            count.until = Instant::now() + WINDOW;
            let cause = cause.clone();
            let more = std::mem::take(&mut count.more);
            if more > 0 {
                return Poll::Ready((cause, more));
            }
            self.counts.remove(&cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cause_is_logged_once_and_then_counted_for_a_minute() {
        let mut tally = Tally::default();
        assert_eq!(tally.note("expired").as_deref(), Some("expired"));
        assert_eq!(tally.note("foreign").as_deref(), Some("foreign"));
        for _ in 0..41 {
            assert_eq!(tally.note("expired"), None);
        }
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| tally.poll_recurred(cx)).await, ("expired".to_owned(), 41));
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_eq!(tally.note("foreign").as_deref(), Some("foreign"), "its minute is over");
        assert_eq!(tally.note("expired"), None, "it has just been logged");
        assert_eq!(poll_fn(|cx| tally.poll_recurred(cx)).await, ("expired".to_owned(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_a_cause_that_does_not_recur() {
        let mut tally = Tally::default();
        tally.note("once");
        advance(WINDOW).await;
        assert!(timeout(WINDOW, poll_fn(|cx| tally.poll_recurred(cx))).await.is_err());
        assert!(tally.counts.is_empty() && tally.due.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn causes_are_bounded_in_number_and_length() {
        let mut tally = Tally::default();
        let logged: Vec<_> = (0..100).filter_map(|n| tally.note(&format!("{n} {:0300}", 0))).collect();
        assert_eq!(logged.len(), CAUSES + 1);
        assert_eq!(logged.last().map(String::as_str), Some(OTHERS));
        assert!(logged.iter().all(|cause| cause.len() <= MAX_CAUSE));
    }
}
