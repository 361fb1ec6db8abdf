// SPDX-License-Identifier: Apache-2.0

//! The desired state of the kernel for one conduit.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{Mac, Ours, Rule};
use crate::api::InterfaceName;

/// The desired state. [`plan()`](super::plan()) computes the changes that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The marks of our objects.
    pub ours: Ours,
    /// Address of the bridge if it has to be created.
    pub mac: Mac,
    /// Whether the bridge and all leak stops stay. Otherwise both go as soon as the bridge has no
    /// port.
    pub present: bool,
    /// Addresses of the bridge, with the length of their subnets; `None` leaves the present ones.
    pub addresses: Option<BTreeSet<IpNet>>,
    /// Links that should be ports. They need not exist yet.
    pub ports: BTreeSet<InterfaceName>,
    /// Links that should no longer be ports.
    pub leaving: BTreeSet<InterfaceName>,
    /// Neighbours to which the default routes of our table should lead.
    pub next_hops: BTreeSet<IpAddr>,
    /// Rules for the VIPs; `None` (the VIPs are unknown) leaves the present ones.
    pub vip_rules: Option<Arc<BTreeSet<Rule>>>,
}

impl Desired {
    /// Only the leak stops and the bridge: the desired state before anything is declared.
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
