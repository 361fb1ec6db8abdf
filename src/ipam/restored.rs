// SPDX-License-Identifier: Apache-2.0

//! Passes leases from one process to the next.
//!
//! A [`Record`] is a lease in a form that can be stored. The records of an earlier process are kept
//! by name until
//! 1. the name is acquired: its addresses are granted at once, and verified by a Renew;
//! 2. the service gives one of the addresses to another name: the service has precedence;
//! 3. the service has answered for [`UNCLAIMED`]: by then it has collected leases that were not
//!    renewed.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{Tag, lease::MAX_NAME, leases::MAX_LEASES};
use crate::api::{Dual, Family};

/// How long a record that is not acquired is kept, from the first answer of the service on.
pub(super) const UNCLAIMED: Duration = Duration::from_secs(3600);

/// The addresses of a name, stored by one process to be restored by the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of the child.
    pub child: Arc<str>,
    /// Its owner; `None` is the proxy itself.
    pub owner: Option<Tag>,
    /// One host address per family, with the prefix length of the node.
    pub addresses: Dual<IpNet>,
}

/// Records that are not acquired yet.
#[derive(Debug, Default)]
pub(super) struct Restored {
    records: HashMap<Arc<str>, Record>,
    children: HashMap<IpAddr, Arc<str>>,
    forget_at: Option<Instant>,
}

impl Restored {
    /// Takes records over. Left out are those that are not a lease of exactly these families, and
    /// all but the first with the same name or address.
    pub(super) fn new(records: Vec<Record>, families: &[Family]) -> Self {
        let families: HashSet<Family> = families.iter().copied().collect();
        let mut restored = Self::default();
        for record in records.into_iter().take(MAX_LEASES) {
            let Record { child, addresses, .. } = &record;
            let complete = addresses.families().collect::<HashSet<_>>() == families;
            let named = (1..=MAX_NAME).contains(&child.len()) && !restored.records.contains_key(child);
            let free = addresses.iter().all(|(_, net)| !restored.children.contains_key(&net.addr()));
            if complete && named && free {
                for (_, net) in addresses.iter() {
                    restored.children.insert(net.addr(), Arc::clone(child));
                }
                restored.records.insert(Arc::clone(child), record);
            }
        }
        restored
    }

    /// The record of a name.
    pub(super) fn get(&self, child: &str) -> Option<&Record> {
        self.records.get(child)
    }

    /// The record of a name that is acquired.
    pub(super) fn take(&mut self, child: &str) -> Option<Record> {
        let record = self.records.remove(child)?;
        for (_, net) in record.addresses.iter() {
            self.children.remove(&net.addr());
        }
        Some(record)
    }

    /// Handles that the service has given an address to a name. Returns the other name whose record
    /// had it, and has it no more.
    pub(super) fn withdraw(&mut self, address: IpAddr) -> Option<Arc<str>> {
        let child = self.children.get(&address).cloned()?;
        self.take(&child)?;
        Some(child)
    }

    /// Handles an answer of the service at this time.
    pub(super) fn answered(&mut self, now: Instant) {
        if now >= *self.forget_at.get_or_insert(now + UNCLAIMED) {
            self.records.clear();
            self.children.clear();
        }
    }

    /// The records that are left.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.records.values().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(child: &str, v4: &str, v6: Option<&str>) -> Record {
        let addresses = Dual { v4: v4.parse().ok(), v6: v6.and_then(|text| text.parse().ok()) };
        Record { child: child.into(), owner: None, addresses }
    }

    fn names(restored: &Restored) -> Vec<String> {
        let mut names: Vec<_> = restored.records().map(|record| record.child.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_record_of_other_families_or_of_a_taken_address_is_left_out() {
        let records = vec![
            record("a", "172.16.0.2/24", Some("fd00::2/64")),
            record("a", "172.16.0.9/24", Some("fd00::9/64")),
            record("b", "172.16.0.2/24", Some("fd00::3/64")),
            record("c", "172.16.0.4/24", None),
            record("", "172.16.0.5/24", Some("fd00::5/64")),
            record("d", "172.16.0.6/24", Some("fd00::6/64")),
        ];
        let mut restored = Restored::new(records, &Family::BOTH);
        assert_eq!(names(&restored), ["a", "d"]);
        let a = restored.take("a").unwrap();
        assert_eq!(a.addresses.v4.unwrap().to_string(), "172.16.0.2/24");
        assert_eq!(restored.take("a"), None);
    }

    #[test]
    fn an_address_given_to_another_name_leaves_its_record() {
        let mut restored = Restored::new(vec![record("a", "172.16.0.2/24", None)], &[Family::V4]);
        assert_eq!(restored.withdraw("172.16.0.3".parse().unwrap()), None);
        assert_eq!(restored.withdraw("172.16.0.2".parse().unwrap()).as_deref(), Some("a"));
        assert_eq!(restored.take("a"), None);
    }

    #[test]
    fn an_unclaimed_record_is_forgotten_after_an_hour_of_answers() {
        let mut restored = Restored::new(vec![record("a", "172.16.0.2/24", None)], &[Family::V4]);
        let now = Instant::now() + 100 * UNCLAIMED;
        restored.answered(now);
        restored.answered(now + UNCLAIMED / 2);
        assert_eq!(names(&restored), ["a"]);
        restored.answered(now + UNCLAIMED);
        assert!(names(&restored).is_empty());
    }
}
