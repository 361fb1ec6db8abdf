// SPDX-License-Identifier: Apache-2.0

//! Hold one picture of the kernel: what a dump shows of the objects that may be ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::Rule;
use crate::api::{Family, InterfaceName};

/// One dump of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses of our bridge, without those of scope link.
    pub addresses: BTreeSet<IpNet>,
    /// Default routes of our table.
    pub routes: Vec<Route>,
    /// Rules that [`Rule`] can express. The same rule may occur twice.
    pub rules: Vec<Rule>,
    /// The kernel has no IPv6.
    pub without_v6: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: InterfaceName,
    /// Its alias. Forwarders write `client-<id>` on links to a target, `server-<id>` on links to a load balancer.
    pub alias: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    /// What it is, as far as it matters here.
    pub kind: LinkKind,
}

/// What a link is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// A way out of the pod: loopback, or the device of a default route of table main. Never made a port.
    Primary,
    /// Anything else.
    Other,
}

/// A default route of our table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The family of the packets.
    pub family: Family,
    /// The lowest wins.
    pub metric: u32,
    /// `proto`: who made it.
    pub protocol: u8,
    /// Where packets go.
    pub target: Target,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// To one or more next hops, chosen by flow.
    Hops(BTreeSet<Hop>),
    /// Dropped.
    Blackhole,
    /// Anything that this process does not make.
    Foreign,
}

/// A next hop as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The neighbour.
    pub via: IpAddr,
    /// Index of the device on which it is looked for.
    pub device: u32,
}

impl Observed {
    /// A link and its index by name.
    pub fn link(&self, name: &InterfaceName) -> Option<(u32, &Link)> {
        self.links.iter().find(|(_, link)| link.name == *name).map(|(index, link)| (*index, link))
    }

    /// Names of the ports of a link.
    pub fn ports_of(&self, index: u32) -> impl Iterator<Item = &InterfaceName> {
        self.links.values().filter(move |link| link.controller == Some(index)).map(|link| &link.name)
    }

    /// The families that the kernel has.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let without_v6 = self.without_v6;
        Family::BOTH.into_iter().filter(move |family| !(without_v6 && *family == Family::V6))
    }

    /// The neighbours in the working default route of a family: those via a device, of the metric that we use.
    pub fn next_hops(&self, family: Family) -> impl Iterator<Item = &Hop> {
        let working = move |route: &&Route| route.family == family && route.metric == metric::working(family);
        self.routes.iter().filter(working).flat_map(|route| match &route.target {
            Target::Hops(hops) => Some(hops.iter()).into_iter().flatten(),
            Target::Blackhole | Target::Foreign => None.into_iter().flatten(),
        })
    }
}

/// Metrics of the default routes of our table.
pub(super) mod metric {
    use crate::api::Family;

    /// The kernel's own defaults, which the Go proxy has too: replacing its route needs the same metric.
    pub(in crate::kernel) const fn working(family: Family) -> u32 {
        match family {
            Family::V4 => 0,
            Family::V6 => 1024,
        }
    }

    /// The blackhole behind the working route.
    pub(in crate::kernel) const BLACKHOLE: u32 = 4000;
}
