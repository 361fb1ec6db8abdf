// SPDX-License-Identifier: Apache-2.0

//! Decide which VIPs hold: the last list, except that an empty one after a non-empty one waits.
//!
//! An empty list is more often a service that has lost its memory than a trench without VIPs, and taking all rules away stops
//! all egress. So the last list stays for a grace time, and this is said aloud.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{Ours, Rule, vip_rules};

/// The VIPs that hold.
#[derive(Debug, Default)]
pub(super) struct VipList {
    /// Rules of the list that holds; none before the first.
    rules: Option<Arc<BTreeSet<Rule>>>,
    /// When an empty list takes effect.
    empty_at: Option<Instant>,
}

impl VipList {
    /// Take a list. `kept` says whether rules of an earlier process stand for the list before the first.
    pub(super) fn set(&mut self, ours: &Ours, vips: &[IpNet], kept: bool, empty_at: Instant) {
        let held = self.rules.as_ref().map_or(kept, |rules| !rules.is_empty());
        if !vips.is_empty() || !held {
            self.empty_at = None;
            self.rules = Some(Arc::new(vip_rules(ours, vips)));
        } else if self.empty_at.is_none() {
            let grace: Duration = empty_at.saturating_duration_since(Instant::now());
            tracing::warn!(?grace, "the VIP list is empty: the last one stays for the grace time");
            self.empty_at = Some(empty_at);
        }
    }

    /// Nothing stood for the list before the first after all: an empty first list takes effect at once.
    pub(super) fn nothing_kept(&mut self) {
        if self.rules.is_none() && self.empty_at.take().is_some() {
            self.rules = Some(Arc::default());
        }
    }

    /// Let an empty list take effect if it is time.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.empty_at.is_some_and(|at| now >= at) {
            tracing::warn!("the VIP list has stayed empty: all VIPs are withdrawn");
            self.empty_at = None;
            self.rules = Some(Arc::default());
        }
    }

    /// Rules of the list that holds; `None` as long as none is known.
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
    use super::*;

    fn list(list: &mut VipList, vips: &[&str], kept: bool) -> Option<usize> {
        let vips: Vec<IpNet> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        list.set(&Ours::default(), &vips, kept, Instant::now() + Duration::from_secs(60));
        list.rules().map(|rules| rules.len())
    }

    #[test]
    fn an_empty_list_after_a_full_one_waits_for_the_grace_time() {
        let mut vips = VipList::default();
        assert_eq!(list(&mut vips, &["20.0.0.1/32"], false), Some(1));
        assert_eq!(list(&mut vips, &[], false), Some(1));
        let due = vips.due().unwrap();
        assert_eq!(list(&mut vips, &[], false), Some(1));
        assert_eq!(vips.due(), Some(due), "a second empty list does not prolong it");
        vips.expire(due - Duration::from_millis(1));
        assert_eq!(vips.rules().unwrap().len(), 1);
        vips.expire(due);
        assert_eq!((vips.rules().unwrap().len(), vips.due()), (0, None));
    }

    #[test]
    fn a_full_list_ends_the_waiting() {
        let mut vips = VipList::default();
        list(&mut vips, &["20.0.0.1/32"], false);
        list(&mut vips, &[], false);
        assert_eq!(list(&mut vips, &["20.0.0.2/32", "2000::1/128"], false), Some(2));
        assert_eq!(vips.due(), None);
    }

    #[test]
    fn the_first_list_may_be_empty_unless_an_earlier_process_left_rules() {
        assert_eq!(list(&mut VipList::default(), &[], false), Some(0));
        let mut after_restart = VipList::default();
        assert_eq!(list(&mut after_restart, &[], true), None, "what was left is not touched");
        after_restart.expire(after_restart.due().unwrap());
        assert_eq!(after_restart.rules().unwrap().len(), 0);
    }
}
