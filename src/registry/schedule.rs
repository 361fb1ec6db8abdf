// SPDX-License-Identifier: Apache-2.0

//! Decides when to register again.

use std::time::Duration;

/// Lifetime of a registration if the answer has none.
pub(crate) const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Shortest time between two refreshes, however short a registration lasts.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time between two refreshes, however long a registry promises: its clock may be ahead of
/// ours, and 40 s are two thirds of the lifetime that NSM's registries give.
pub(crate) const LONGEST_INTERVAL: Duration = Duration::from_secs(40);

/// Time to wait before the refresh of a registration that lasts another `left`.
///
/// Two thirds of it, as NSM does. But nsmgr drops an entry one call deadline early, so with a short
/// `left` two thirds is too late: then the refresh comes a `margin` before that. At least
/// [`SHORTEST_INTERVAL`], at most [`LONGEST_INTERVAL`].
pub(crate) fn refresh_after(left: Duration, deadline: Duration, margin: Duration) -> Duration {
    (left.saturating_mul(2) / 3)
        .min(left.saturating_sub(deadline + margin))
        .clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_comes_in_time_by_the_table() {
        let s = Duration::from_secs;
        #[rustfmt::skip]
        let table = [
            // left, deadline, margin, refresh after
            (s(60), s(15), s(5), s(40)), // the usual: dropped after 45 s
            (s(60), s(5), s(5), s(40)), // dropped after 55 s
            (s(45), s(15), s(5), s(25)), // two thirds would be 30 s, the drop is at 30 s
            (s(30), s(15), s(5), s(10)),
            (s(30), s(5), s(5), s(20)),
            (s(20), s(15), s(5), s(1)), // too short, but never a tight loop
            (s(3), s(15), s(5), s(1)),
            (s(0), s(15), s(5), s(1)),
            (s(150), s(15), s(5), s(40)), // by a clock that is 90 s ahead of ours
            (s(u64::MAX), s(15), s(5), s(40)), // an invalid lifetime from a registry
        ];
        for (left, deadline, margin, expected) in table {
            assert_eq!(
                refresh_after(left, deadline, margin),
                expected,
                "{left:?} left, deadline {deadline:?}"
            );
        }
    }
}
