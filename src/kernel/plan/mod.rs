// SPDX-License-Identifier: Apache-2.0

//! Compares the observed with the desired state, and returns the changes in an order that breaks
//! nothing on the way.
//!
//! 1. The leak stops are added first and removed last, so that no packet takes the primary network
//!    in between.
//! 2. The objects that carry traffic are added from the ground up (bridge, addresses, ports,
//!    routes, VIP rules) before anything is removed. Changes for single connections come before the
//!    VIP rules, of which there may be thousands.
//! 3. Rules are added from high priorities to low and removed from low to high, so that a `goto`
//!    always has a destination.
//! 4. A default route is replaced, never removed and added; it is removed only when no next hop is
//!    left.
//! 5. Ports leave after their next hops.
//! 6. A change that the bridge cannot accept (IPv6, while that is disabled) is not requested.
//! 7. Objects that are not ours stay: other tables, rules of other shapes, links that no connection
//!    has named. If a link of another kind has the name of the bridge, only the leak stops are
//!    added.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    Desired, Link, Observed, Op, Route, RouteTarget, Rule,
    observed::{LinkKind, metric},
};
use crate::api::{Dual, Family, InterfaceName};

/// The changes that lead to the desired state, in order. Empty if the state is reached, or if it
/// waits for something that only other programs can provide.
pub fn plan(observed: &Observed, desired: &Desired) -> Vec<Op> {
    let bridge = observed.bridge(&desired.ours);
    let keep = desired.present || bridge.is_some_and(|link| observed.ports_of(link.index).next().is_some());
    let mut plan = Plan { observed, desired, bridge: bridge.map(|link| link.index), keep, ops: Vec::new() };
    let rules = plan.rules();
    plan.ops.extend(rules.stops.into_iter().map(Op::AddRule));
    let taken = bridge.is_none() && observed.link(&desired.ours.bridge).is_some();
    if taken {
        return plan.ops;
    }
    if keep {
        plan.ground(bridge);
    }
    plan.ports();
    plan.routes();
    plan.ops.extend(rules.added.into_iter().rev().map(Op::AddRule));
    plan.ops.extend(rules.removed.into_iter().map(Op::DeleteRule));
    plan.leave();
    plan.ops.extend(rules.unneeded.into_iter().map(Op::DeleteRule));
    plan.ops
}

struct Plan<'a> {
    observed: &'a Observed,
    desired: &'a Desired,
    bridge: Option<u32>,
    /// The bridge and the leak stops are desired.
    keep: bool,
    ops: Vec<Op>,
}

/// Changes of rules, in the order of [`Rule`].
#[derive(Default)]
struct Rules {
    /// Leak stops to add.
    stops: Vec<Rule>,
    /// VIP rules to add.
    added: Vec<Rule>,
    /// VIP rules to remove.
    removed: Vec<Rule>,
    /// Leak stops to remove.
    unneeded: Vec<Rule>,
}

impl Plan<'_> {
    fn rules(&self) -> Rules {
        let ours = &self.desired.ours;
        let links = self.leak_stopped();
        let vips = self.desired.vip_rules.as_deref();
        let mut stops = Dual::<HashSet<&InterfaceName>>::default();
        let mut there = HashSet::new();
        let mut out = Rules::default();
        for rule in &self.observed.rules {
            if let Some(link) = rule.stops_leaks_of(ours) {
                let again = !stops.slot(rule.family).get_or_insert_default().insert(link);
                if again || !links.contains(link) {
                    out.unneeded.push(rule.clone());
                }
                continue;
            }
            let again = !there.insert(rule);
            let managed = rule.protocol == ours.protocol || rule.made_by_go(ours);
            if managed && vips.is_some_and(|vips| again || !vips.contains(rule)) {
                out.removed.push(rule.clone());
            }
        }
        out.unneeded.sort_unstable();
        out.removed.sort_unstable();
        for family in self.observed.families() {
            let stops = stops.get(family);
            let missing = links.iter().filter(|link| !stops.is_some_and(|stops| stops.contains(*link)));
            out.stops.extend(missing.map(|link| Rule::leak_stop(ours, family, link)));
        }
        let vips = vips.into_iter().flatten();
        let possible = vips.filter(|rule| !(self.observed.without_v6 && rule.family == Family::V6));
        out.added.extend(possible.filter(|rule| !there.contains(rule)).cloned());
        out
    }

    /// The links that need a leak stop: the bridge, and every existing link that is, will be or was
    /// a port of a connection. Outside of the bridge, a link answers ARP for the gateway with its
    /// own address, and its packets would take the primary network.
    fn leak_stopped(&self) -> BTreeSet<&InterfaceName> {
        let Desired { ours, ports, leaving, .. } = self.desired;
        let stopped = self.observed.rules.iter().filter_map(|rule| rule.stops_leaks_of(ours));
        let stopped = stopped.filter(|name| self.observed.link(name).is_some());
        let ports = ports.iter().filter(|name| !self.primary(name));
        let mut links: BTreeSet<&InterfaceName> = leaving.iter().chain(stopped).chain(ports).collect();
        links.remove(&ours.bridge);
        links.extend(self.keep.then_some(&ours.bridge));
        links
    }

    /// The bridge and its addresses.
    fn ground(&mut self, bridge: Option<&Link>) {
        match bridge {
            Some(link) if !link.up => self.ops.push(Op::RaiseBridge),
            Some(_) => {}
            None => self.ops.push(Op::CreateBridge(self.desired.mac)),
        }
        let settings = self.observed.bridge_settings;
        if bridge.is_some() && (settings.multicast_snooping || settings.spanning_tree) {
            self.ops.push(Op::ConfigureBridge);
        }
        let wanted = self.desired.addresses.iter().flatten();
        let possible = wanted.filter(|net| !self.is_disabled(Family::of_net(net)));
        let missing = possible.filter(|net| !self.observed.addresses.contains(net));
        let added: Vec<Op> = missing.copied().map(Op::AddAddress).collect();
        self.ops.extend(added);
    }

    /// The default routes of our table: the working one, and the blackhole behind it.
    fn routes(&mut self) {
        for family in self.observed.families() {
            let there: BTreeMap<u32, &Route> =
                self.observed.routes.iter().filter(|r| r.family == family).map(|r| (r.metric, r)).collect();
            let has_blackhole = self.is_blackhole(there.get(&metric::BLACKHOLE).copied());
            if self.keep && !has_blackhole {
                self.ops.push(Op::SetBlackhole(family));
            }
            let working = metric::working(family);
            let hops = self.next_hops(family);
            match there.get(&working) {
                _ if !hops.is_empty() && self.leads_to(there.get(&working).copied(), &hops) => {}
                _ if !hops.is_empty() => self.ops.push(Op::SetNextHops(family, hops)),
                Some(route) if route.target != RouteTarget::Foreign => {
                    self.ops.push(Op::DeleteRoute(family, working))
                }
                _ => {}
            }
            let strays = there.values().filter(|route| {
                let kept = route.metric == working || (route.metric == metric::BLACKHOLE && self.keep);
                route.protocol == self.desired.ours.protocol && !kept
            });
            self.ops.extend(strays.map(|route| Op::DeleteRoute(family, route.metric)));
        }
    }

    /// The next hops of a family, as far as the bridge accepts them.
    fn next_hops(&self, family: Family) -> BTreeSet<IpAddr> {
        let hops = self.desired.next_hops.iter().copied().filter(|hop| Family::of(*hop) == family);
        hops.filter(|_| !self.is_disabled(family)).collect()
    }

    /// Whether the bridge accepts nothing of a family.
    fn is_disabled(&self, family: Family) -> bool {
        family == Family::V6 && (self.observed.without_v6 || self.observed.bridge_settings.v6_disabled)
    }

    fn is_blackhole(&self, route: Option<&Route>) -> bool {
        route.is_some_and(|route| {
            route.target == RouteTarget::Blackhole && route.protocol == self.desired.ours.protocol
        })
    }

    /// Whether a route is ours, and leads to exactly these neighbours by way of the bridge.
    fn leads_to(&self, route: Option<&Route>, hops: &BTreeSet<IpAddr>) -> bool {
        let Some(Route { protocol, target: RouteTarget::Hops(there), .. }) = route else { return false };
        *protocol == self.desired.ours.protocol
            && there.len() == hops.len()
            && there.iter().all(|hop| Some(hop.device) == self.bridge && hops.contains(&hop.via))
    }

    /// Makes ports of the desired links, as far as they exist.
    fn ports(&mut self) {
        for name in &self.desired.ports {
            if let Some(link) = self.observed.link(name) {
                let there = link.controller.is_some() && link.controller == self.bridge;
                if !there && !self.primary(name) {
                    self.ops.push(Op::Attach(name.clone(), link.index));
                }
            }
        }
    }

    /// Whether a link must never be a port: the bridge itself, or an interface of the pod's own
    /// traffic.
    fn primary(&self, name: &InterfaceName) -> bool {
        let link = self.observed.link(name);
        *name == self.desired.ours.bridge || link.is_some_and(|link| link.kind == LinkKind::Primary)
    }

    /// Removes links that should no longer be ports, addresses that are no longer ours, and the
    /// bridge if nothing needs it.
    fn leave(&mut self) {
        let Some(bridge) = self.bridge else { return };
        for name in self.desired.leaving.difference(&self.desired.ports) {
            if let Some(link) = self.observed.link(name).filter(|link| link.controller == Some(bridge)) {
                self.ops.push(Op::Detach(name.clone(), link.index));
            }
        }
        match &self.desired.addresses {
            _ if !self.keep => self.ops.push(Op::DeleteBridge),
            Some(wanted) => {
                let surplus = self.observed.addresses.iter().filter(|net| !wanted.contains(net));
                let surplus: Vec<IpNet> = surplus.copied().collect();
                self.ops.extend(surplus.iter().copied().map(Op::DeleteAddress));
                self.restore_secondary(&surplus, wanted);
            }
            None => {}
        }
    }

    /// Restores what Linux removes with the first address of an IPv4 subnet: the other addresses in
    /// it, and with the last address the routes.
    fn restore_secondary(&mut self, removed: &[IpNet], wanted: &BTreeSet<IpNet>) {
        let v4 = removed.iter().filter(|net| Family::of_net(net) == Family::V4);
        let subnets: BTreeSet<IpNet> = v4.map(IpNet::trunc).collect();
        let beside: Vec<IpNet> =
            wanted.iter().filter(|net| subnets.contains(&net.trunc())).copied().collect();
        if beside.is_empty() {
            return;
        }
        self.ops.extend(beside.into_iter().map(Op::AddAddress));
        let hops = self.next_hops(Family::V4);
        if !hops.is_empty() {
            self.ops.push(Op::SetNextHops(Family::V4, hops));
        }
    }
}

#[cfg(test)]
mod tests;
