// SPDX-License-Identifier: Apache-2.0

//! Addresses that the bridge had before its gateways, and that connections may still use.
//!
//! A former address stays for as long as a connection lies in its subnet, and for a minimum time:
//! forwarders do not change the routes of an existing link. It is removed at once when it becomes
//! the address of a connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tokio::time::Instant;

use crate::{
    api::Dual,
    kernel::{Observed, Settings, adoption::Adoption, claims::Declared},
};

/// Former gateways.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Former {
    /// Gateways at the last read.
    gateways: Dual<IpNet>,
    /// Minimum time for which each stays; `None` until the proxy is ready, when that time begins.
    kept: BTreeMap<IpNet, Option<Instant>>,
}

impl Former {
    /// The bridge's addresses at the first read.
    pub(super) fn of(observed: &Observed) -> Self {
        Self { gateways: Dual::NONE, kept: observed.addresses.iter().map(|net| (*net, None)).collect() }
    }

    /// Updates the gateways and the connections. True if the gateways have changed.
    pub(super) fn follow(
        &mut self,
        declared: &Declared,
        adoption: Option<&Adoption>,
        settings: &Settings,
        now: Instant,
    ) -> bool {
        let before = std::mem::replace(&mut self.gateways, declared.gateways);
        let until = now + settings.adoption;
        let moved = before != declared.gateways;
        self.kept.extend(before.iter().filter(|_| moved).map(|(_, net)| (*net, Some(until))));
        for end in self.kept.values_mut().filter(|end| end.is_none()) {
            *end = declared.ready.map(|ready| ready + settings.adoption);
        }
        for (_, gateway) in declared.gateways.iter() {
            self.kept.remove(gateway);
        }
        if !self.kept.is_empty() {
            let occupied = Occupied::of(declared, adoption);
            self.kept.retain(|net, end| occupied.keeps(net, end.is_none_or(|end| now < end)));
        }
        moved
    }

    pub(in crate::kernel) fn nets(&self) -> impl Iterator<Item = &IpNet> {
        self.kept.keys()
    }

    /// When time alone may remove some of them.
    pub(in crate::kernel) fn due(&self) -> impl Iterator<Item = Instant> {
        self.kept.values().filter_map(|end| *end)
    }
}

/// The addresses in use by connections.
struct Occupied {
    addresses: BTreeSet<IpAddr>,
    /// An earlier process left links whose addresses are not known.
    unknown: bool,
}

impl Occupied {
    fn of(declared: &Declared, adoption: Option<&Adoption>) -> Self {
        let left = adoption.into_iter().flat_map(|adoption| adoption.peers.values());
        let hops = left.clone().flat_map(|left| left.next_hops.iter().copied());
        let declared = declared.peers.values().flat_map(|peer| peer.addresses());
        Self {
            addresses: declared.chain(hops).collect(),
            unknown: left.clone().any(|left| !left.links.is_empty()),
        }
    }

    fn keeps(&self, net: &IpNet, young: bool) -> bool {
        let kept = young || self.unknown || self.addresses.iter().any(|address| net.contains(address));
        kept && !self.addresses.contains(&net.addr())
    }
}
