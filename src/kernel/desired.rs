// SPDX-License-Identifier: Apache-2.0

//! Hold what should be true in the kernel for one conduit.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{Mac, Ours, Rule};
use crate::api::InterfaceName;

/// What should be true. [`plan()`](super::plan()) says what is missing for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// What is ours.
    pub ours: Ours,
    /// Address of the bridge if it is to be created.
    pub mac: Mac,
    /// Whether the bridge and all that stops leaks stay. Without it, both go as soon as the bridge has no port.
    pub present: bool,
    /// Addresses of the bridge, with the length of their subnets; `None` leaves what is there.
    pub addresses: Option<BTreeSet<IpNet>>,
    /// Links that are to be ports. They need not exist yet.
    pub ports: BTreeSet<InterfaceName>,
    /// Links that are no longer to be ports.
    pub leaving: BTreeSet<InterfaceName>,
    /// Neighbours that the default routes of our table lead to.
    pub next_hops: BTreeSet<IpAddr>,
    /// Rules for the VIPs; `None` (the VIPs are not known) leaves what is there.
    pub vip_rules: Option<Arc<BTreeSet<Rule>>>,
}

impl Desired {
    /// Only the leak stop and the bridge: what holds before anything is known.
    pub fn nothing(ours: Ours, mac: Mac) -> Self {
        Self {
            ours,
            mac,
            present: true,
            addresses: None,
            ports: BTreeSet::new(),
            leaving: BTreeSet::new(),
            next_hops: BTreeSet::new(),
            vip_rules: None,
        }
    }
}
