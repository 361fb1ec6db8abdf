// SPDX-License-Identifier: Apache-2.0

//! Links that are no longer claimed and whose leak stops stay.
//!
//! An existing link keeps its leak stop. A link that existed and is gone needs none. A link that
//! never existed may still appear, because a forwarder may complete a Request that has failed here:
//! its leak stop stays for a limited time, and the number of such links is limited.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::api::InterfaceName;

/// Maximum number of links that may still appear. Beyond it, the oldest are given up.
const MAX_AWAITED: usize = 128;

/// Links that were claimed, or left by an earlier process, and no longer are.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Leaving(BTreeMap<InterfaceName, Link>);

#[derive(Clone, Copy, Debug)]
struct Link {
    /// Until when the leak stop stays if the link never existed.
    until: Instant,
    /// A dump has shown it.
    seen: bool,
}

impl Leaving {
    /// Keeps the leak stop of a link, and records whether a dump has shown the link.
    pub(super) fn insert(&mut self, name: InterfaceName, until: Instant, seen: bool) {
        self.0.insert(name, Link { until, seen });
        let awaited = self.0.iter().filter(|(_, link)| !link.seen);
        if awaited.clone().count() > MAX_AWAITED
            && let Some((oldest, _)) = awaited.min_by_key(|(_, link)| link.until)
        {
            let oldest = oldest.clone();
            self.0.remove(&oldest);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets a link because it is claimed.
    pub(super) fn remove(&mut self, name: &InterfaceName) {
        self.0.remove(name);
    }

    /// Forgets the links that do not exist and may no longer appear; when `stopping`, none may.
    pub(super) fn expire(&mut self, exists: impl Fn(&InterfaceName) -> bool, now: Instant, stopping: bool) {
        self.0.retain(|name, link| {
            let there = exists(name);
            link.seen |= there;
            there || (!link.seen && now < link.until && !stopping)
        });
    }

    pub(in crate::kernel) fn names(&self) -> impl Iterator<Item = &InterfaceName> {
        self.0.keys()
    }

    /// When time alone removes some of them.
    pub(in crate::kernel) fn due(&self) -> impl Iterator<Item = Instant> {
        self.0.values().filter(|link| !link.seen).map(|link| link.until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(number: usize) -> InterfaceName {
        format!("nsm-{number}").parse().unwrap()
    }

    #[test]
    fn a_link_is_kept_while_it_exists_and_awaited_only_before() {
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        // (a dump has shown it, it exists, the time is up, stopping) and whether it is kept.
        let table = [
            ((true, true, true, true), true),
            ((true, false, false, false), false),
            ((false, true, true, true), true),
            ((false, false, false, false), true),
            ((false, false, true, false), false),
            ((false, false, false, true), false),
        ];
        for ((seen, exists, over, stopping), kept) in table {
            let mut leaving = Leaving::default();
            leaving.insert(name(1), now + minute, seen);
            leaving.expire(|_| exists, if over { now + minute } else { now }, stopping);
            assert_eq!(leaving.0.contains_key(&name(1)), kept, "{seen} {exists} {over} {stopping}");
        }
        let mut leaving = Leaving::default();
        leaving.insert(name(1), now + minute, false);
        leaving.expire(|_| true, now, false);
        leaving.expire(|_| false, now, false);
        assert!(!leaving.0.contains_key(&name(1)), "it appeared while it was waited for, and went");
    }

    #[test]
    fn of_too_many_that_never_appear_the_oldest_go() {
        let now = Instant::now();
        let mut leaving = Leaving::default();
        leaving.insert(name(10_000), now, true);
        for number in 0..MAX_AWAITED + 5 {
            leaving.insert(name(number), now + Duration::from_millis(number as u64), false);
        }
        assert_eq!(leaving.names().count(), MAX_AWAITED + 1);
        assert!((0..5).all(|number| !leaving.0.contains_key(&name(number))));
        assert!(leaving.0.contains_key(&name(5)) && leaving.0.contains_key(&name(10_000)));
    }
}
