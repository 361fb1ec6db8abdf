// SPDX-License-Identifier: Apache-2.0

//! The observed state of the kernel: the objects in a dump that may be ours.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Mac, Ours, Rule};
use crate::api::{Dual, Family, InterfaceName};

/// One dump of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Links by name.
    pub links: BTreeMap<InterfaceName, Link>,
    /// Settings of our bridge.
    pub bridge_settings: BridgeSettings,
    /// Addresses of our bridge, without those of scope link.
    pub addresses: BTreeSet<IpNet>,
    /// Default routes of our table.
    pub routes: Vec<Route>,
    /// Rules that [`Rule`] can represent. The same rule may occur twice.
    pub rules: Vec<Rule>,
    /// The kernel has no IPv6.
    pub without_v6: bool,
}

/// Settings with which a bridge withholds frames or addresses. All are off on a bridge that this
/// program creates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeSettings {
    /// After any port has sent a query for multicast listeners, multicast frames reach only the
    /// ports that have answered it. Neighbour discovery then does not find hosts that come later.
    pub multicast_snooping: bool,
    /// The spanning tree protocol is on: a port carries nothing for the first 30 s, or for as long
    /// as other hosts claim to be the root.
    pub spanning_tree: bool,
    /// `disable_ipv6` is set: the bridge takes no IPv6 address and no IPv6 route leads to it.
    pub v6_disabled: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its MAC address, if it has one.
    pub mac: Option<Mac>,
    /// Its alias. Forwarders write `client-<id>` on links to a target, `server-<id>` on links to a
    /// load balancer.
    pub alias: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// It carries frames: it is up, and so is its far end.
    pub running: bool,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    /// Its kind, as far as plans distinguish it.
    pub kind: LinkKind,
}

/// The kinds of links that plans distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// An interface of the pod's own traffic: loopback, or the device of a default route of table
    /// main. Never made a port.
    Primary,
    /// Anything else.
    Other,
}

/// A default route of our table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The family of the packets.
    pub family: Family,
    /// The route with the lowest metric is used.
    pub metric: u32,
    /// `proto`: the program that made it.
    pub protocol: u8,
    /// The destination of its packets.
    pub target: RouteTarget,
}

/// The destination of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTarget {
    /// To one or more next hops, chosen by flow.
    Hops(BTreeSet<Hop>),
    /// Packets are dropped.
    Blackhole,
    /// Any destination that this process does not make.
    Foreign,
}

/// A next hop, as in a dump.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The neighbour.
    pub via: IpAddr,
    /// Index of the device on which the neighbour is resolved.
    pub device: u32,
}

impl Observed {
    /// A link by name.
    pub fn link(&self, name: &InterfaceName) -> Option<&Link> {
        self.links.get(name)
    }

    /// Our bridge: the link of that name, if it is a bridge.
    pub fn bridge(&self, ours: &Ours) -> Option<&Link> {
        self.link(&ours.bridge).filter(|link| link.kind == LinkKind::Bridge)
    }

    /// The ports of a link, by its index.
    pub fn ports_of(&self, index: u32) -> impl Iterator<Item = (&InterfaceName, &Link)> {
        self.links.iter().filter(move |(_, link)| link.controller == Some(index))
    }

    /// The links whose leak stop is in place, for each family.
    pub(super) fn leak_stops(&self, ours: &Ours) -> Dual<HashSet<&InterfaceName>> {
        let mut stops = Dual::<HashSet<_>>::default();
        for rule in &self.rules {
            if let Some(link) = rule.stops_leaks_of(ours) {
                stops.slot(rule.family).get_or_insert_default().insert(link);
            }
        }
        stops
    }

    /// The families that the kernel has.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let without_v6 = self.without_v6;
        Family::BOTH.into_iter().filter(move |family| !(without_v6 && *family == Family::V6))
    }

    /// The next hops in the working default route of a family.
    pub fn next_hops(&self, family: Family) -> impl Iterator<Item = &Hop> {
        let metric = metric::working(family);
        self.routes
            .iter()
            .filter(move |route| route.family == family && route.metric == metric)
            .filter_map(|route| route.hops())
            .flatten()
    }
}

impl Route {
    /// The next hops, if the route leads to next hops.
    pub fn hops(&self) -> Option<&BTreeSet<Hop>> {
        match &self.target {
            RouteTarget::Hops(hops) => Some(hops),
            RouteTarget::Blackhole | RouteTarget::Foreign => None,
        }
    }
}

/// Metrics of the default routes of our table.
pub(super) mod metric {
    use crate::api::Family;

    /// The kernel's own defaults, which the Go proxy uses too: only a route of the same metric
    /// replaces its route.
    pub(in crate::kernel) const fn working(family: Family) -> u32 {
        match family {
            Family::V4 => 0,
            Family::V6 => 1024,
        }
    }

    /// The blackhole behind the working route.
    pub(in crate::kernel) const BLACKHOLE: u32 = 4000;
}
