// SPDX-License-Identifier: Apache-2.0

//! A map from addresses to the names that have them.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use super::state::State;

/// The addresses of all leases.
#[derive(Debug, Default)]
pub(super) struct Used(HashMap<IpAddr, Arc<str>>);

impl Used {
    /// The name that has an address.
    pub(super) fn by(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.0.get(&address)
    }

    /// Adds the addresses of a lease.
    pub(super) fn insert(&mut self, child: &Arc<str>, state: &State) {
        for (_, net) in state.addresses().iter().flat_map(|addresses| addresses.iter()) {
            self.0.entry(net.addr()).or_insert_with(|| Arc::clone(child));
        }
    }

    /// Removes the addresses of a lease, before it changes.
    pub(super) fn remove(&mut self, child: &str, state: &State) {
        for (_, net) in state.addresses().iter().flat_map(|addresses| addresses.iter()) {
            if self.by(net.addr()).is_some_and(|by| **by == *child) {
                self.0.remove(&net.addr());
            }
        }
    }
}
