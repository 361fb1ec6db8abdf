// SPDX-License-Identifier: Apache-2.0

//! Decides which VIPs are in effect: the last list, except that an empty one after a non-empty one
//! is delayed.
//!
//! An empty list more often comes from a service that has lost its state than from a trench without
//! VIPs, and removing all rules stops all egress. So the last list stays for a grace time, and a
//! warning is reported.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;

use super::Rule;

/// The VIPs in effect.
#[derive(Debug, Default)]
pub(super) struct VipList {
    /// Rules of an earlier process take the place of a list before the first one.
    kept: bool,
    /// The last list, whether it is in effect or not.
    taken: Option<Arc<BTreeSet<Rule>>>,
    /// Rules of the list in effect; `None` before the first.
    rules: Option<Arc<BTreeSet<Rule>>>,
    /// When an empty list takes effect.
    empty_at: Option<Instant>,
}

impl VipList {
    /// No list yet. With `kept`, rules of an earlier process take its place.
    pub(super) fn after(kept: bool) -> Self {
        Self { kept, ..Self::default() }
    }

    /// No list yet, but the rules of a list that an earlier process had.
    pub(super) fn restored(rules: BTreeSet<Rule>) -> Self {
        Self { rules: Some(Arc::new(rules)), ..Self::default() }
    }

    /// Takes the rules of a list, if it differs from the last one taken.
    pub(super) fn take(&mut self, list: Option<&Arc<BTreeSet<Rule>>>, empty_at: Instant) {
        let Some(list) = list else { return };
        if self.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, list)) {
            return;
        }
        self.taken = Some(list.clone());
        let held = self.rules.as_ref().map_or(self.kept, |rules| !rules.is_empty());
        if !list.is_empty() || !held {
            self.empty_at = None;
            self.rules = Some(list.clone());
        } else if self.empty_at.is_none() {
            self.empty_at = Some(empty_at);
        }
    }

    /// Puts an empty list into effect if it is time.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.empty_at.is_some_and(|at| now >= at) {
            tracing::warn!("the VIP list has stayed empty: all VIPs are withdrawn");
            self.empty_at = None;
            self.rules = Some(Arc::default());
        }
    }

    /// Rules of the list in effect; `None` while no list is known.
    pub(super) fn rules(&self) -> Option<Arc<BTreeSet<Rule>>> {
        self.rules.clone()
    }

    /// When an empty list takes effect.
    pub(super) fn due(&self) -> Option<Instant> {
        self.empty_at
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ipnet::IpNet;

    use super::*;
    use crate::kernel::{Ours, vip_rules};

    fn list(list: &mut VipList, vips: &[&str]) -> Option<usize> {
        let vips: Vec<IpNet> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        let rules = Arc::new(vip_rules(&Ours::default(), &vips));
        list.take(Some(&rules), Instant::now() + Duration::from_secs(60));
        list.rules().map(|rules| rules.len())
    }

    #[test]
    fn an_empty_list_after_a_full_one_waits_for_the_grace_time() {
        let mut vips = VipList::default();
        assert_eq!(list(&mut vips, &["20.0.0.1/32"]), Some(1));
        assert_eq!(list(&mut vips, &[]), Some(1));
        let due = vips.due().unwrap();
        assert_eq!(list(&mut vips, &[]), Some(1));
        assert_eq!(vips.due(), Some(due), "a second empty list does not prolong it");
        vips.expire(due - Duration::from_millis(1));
        assert_eq!(vips.rules().unwrap().len(), 1);
        vips.expire(due);
        assert_eq!((vips.rules().unwrap().len(), vips.due()), (0, None));
    }

    #[test]
    fn a_full_list_ends_the_waiting() {
        let mut vips = VipList::default();
        list(&mut vips, &["20.0.0.1/32"]);
        list(&mut vips, &[]);
        assert_eq!(list(&mut vips, &["20.0.0.2/32", "2000::1/128"]), Some(2));
        assert_eq!(vips.due(), None);
    }

    #[test]
    fn an_empty_first_list_counts_unless_rules_were_left() {
        assert_eq!(list(&mut VipList::default(), &[]), Some(0));
        let mut after_restart = VipList::after(true);
        assert_eq!(list(&mut after_restart, &[]), None, "what was left is not touched");
        after_restart.expire(after_restart.due().unwrap());
        assert_eq!(after_restart.rules().unwrap().len(), 0);
    }
}
