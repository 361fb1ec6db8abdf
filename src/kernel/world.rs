// SPDX-License-Identifier: Apache-2.0

//! A model of the part of Linux that plans change, with the error numbers of Linux.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    Action, BridgeSettings, Hop, Link, LinkKind, Observed, Op, Ours, Route, RouteTarget, Rule,
    backend::errno, observed::metric,
};
use crate::api::{Family, InterfaceName};

/// Maximum number of ports of a bridge: a port's number has ten bits, and 0 is not used.
const MAX_PORTS: usize = 1023;

/// State of a kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Links by name.
    pub links: BTreeMap<InterfaceName, Link>,
    /// Settings of our bridge.
    pub bridge_settings: BridgeSettings,
    /// Addresses by index of their link, in the order in which they were added.
    pub addresses: Vec<(u32, IpNet)>,
    /// Default routes of our table.
    pub routes: Vec<Route>,
    /// Rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
    /// Next hops that the kernel refuses in a route.
    pub invalid_hops: BTreeSet<IpAddr>,
    /// Maximum number of ports of a bridge; `None` is 1023.
    pub most_ports: Option<usize>,
    last_index: u32,
}

impl World {
    /// Adds a link and returns its index. An existing link of that name stays.
    pub fn add_link(&mut self, name: InterfaceName, link: Link) -> u32 {
        if let Some(link) = self.links.get(&name) {
            return link.index;
        }
        self.last_index += 1;
        let index = self.last_index;
        self.links.insert(name, Link { index, ..link });
        index
    }

    /// Removes a link, with its addresses and routes; its ports become free.
    pub fn remove_link(&mut self, name: &InterfaceName) {
        let Some(Link { index, .. }) = self.links.remove(name) else { return };
        self.addresses.retain(|(link, _)| *link != index);
        for port in self.links.values_mut().filter(|link| link.controller == Some(index)) {
            port.controller = None;
        }
        self.flush_routes(index, &Family::BOTH);
    }

    /// Sets a link down that is up: its routes and its IPv6 addresses are removed.
    pub fn set_down(&mut self, name: &InterfaceName) {
        let Some(link) = self.links.get_mut(name).filter(|link| link.up) else { return };
        (link.up, link.running) = (false, false);
        let index = link.index;
        self.addresses.retain(|(link, net)| *link != index || Family::of_net(net) == Family::V4);
        self.flush_routes(index, &Family::BOTH);
    }

    /// Disables IPv6 on all links, or enables it again. All IPv6 objects except rules are removed.
    pub fn disable_v6(&mut self, disabled: bool) {
        self.bridge_settings.v6_disabled = disabled;
        if disabled {
            self.addresses.retain(|(_, net)| Family::of_net(net) == Family::V4);
            self.routes.retain(|route| route.family == Family::V4);
        }
    }

    /// Takes the carrier of a link away or gives it back: its far end is set down or up.
    pub fn set_running(&mut self, name: &InterfaceName, running: bool) {
        if let Some(link) = self.links.get_mut(name) {
            link.running = link.up && running;
        }
    }

    /// Adds a rule behind those of its priority.
    ///
    /// # Errors
    /// `EEXIST` if the kernel would take another rule for this one.
    pub fn add_rule(&mut self, rule: Rule) -> Result<(), i32> {
        if self.rules.iter().any(|there| found_by(there, &rule)) {
            return Err(errno::EEXIST);
        }
        let at = self.rules.partition_point(|other| other.priority <= rule.priority);
        self.rules.insert(at, rule);
        Ok(())
    }

    pub(super) fn observed(&self, ours: &Ours) -> Observed {
        let bridge = self.index(&ours.bridge);
        let of_bridge = self.addresses.iter().filter(|(link, _)| Some(*link) == bridge);
        Observed {
            links: self.links.clone(),
            bridge_settings: if bridge.is_some() { self.bridge_settings } else { Default::default() },
            addresses: of_bridge.map(|(_, net)| *net).collect(),
            routes: self.routes.clone(),
            rules: self.rules.clone(),
            without_v6: false,
        }
    }

    pub(super) fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), i32> {
        let bridge = self.index(&ours.bridge).ok_or(errno::ENODEV);
        match op {
            Op::AddRule(rule) => self.add_rule(rule.clone()),
            Op::DeleteRule(rule) => self.delete_rule(rule),
            Op::CreateBridge(_) if bridge.is_ok() => Err(errno::EEXIST),
            Op::CreateBridge(mac) => {
                let bridge = Link {
                    index: 0,
                    mac: Some(*mac),
                    alias: None,
                    up: true,
                    running: true,
                    controller: None,
                    kind: LinkKind::Bridge,
                };
                self.add_link(ours.bridge.clone(), bridge);
                self.configure_bridge();
                Ok(())
            }
            Op::RaiseBridge => {
                bridge.and_then(|bridge| self.change(bridge, |link| (link.up, link.running) = (true, true)))
            }
            Op::ConfigureBridge => bridge.map(|_| self.configure_bridge()),
            Op::DeleteBridge => bridge.map(|_| self.remove_link(&ours.bridge)),
            Op::AddAddress(net) if self.bridge_settings.v6_disabled && net.addr().is_ipv6() => {
                bridge.and(Err(errno::EACCES))
            }
            Op::AddAddress(net) => self.add_address(bridge?, *net),
            Op::DeleteAddress(net) => self.delete_address(bridge?, net),
            Op::SetNextHops(family, hops) => self.set_next_hops(bridge?, ours, *family, hops),
            Op::ForgetNeighbour(_) => bridge.map(drop), // this kernel resolves no addresses
            Op::SetBlackhole(family) => {
                self.set_route(ours, *family, metric::BLACKHOLE, RouteTarget::Blackhole);
                Ok(())
            }
            Op::DeleteRoute(family, metric) => self.delete_route(*family, *metric),
            Op::Attach(_, index) => self.attach(*index, bridge?),
            Op::Detach(_, index) => self.change(*index, |link| link.controller = None),
        }
    }

    fn configure_bridge(&mut self) {
        let v6_disabled = self.bridge_settings.v6_disabled;
        self.bridge_settings = BridgeSettings { v6_disabled, ..BridgeSettings::default() };
    }

    fn attach(&mut self, link: u32, bridge: u32) -> Result<(), i32> {
        let ports = self.links.values().filter(|port| port.controller == Some(bridge) && port.index != link);
        if ports.count() >= self.most_ports.unwrap_or(MAX_PORTS) {
            return Err(errno::EXFULL);
        }
        self.change(link, |link| link.controller = Some(bridge))
    }

    fn delete_rule(&mut self, rule: &Rule) -> Result<(), i32> {
        let at = self.rules.iter().position(|there| found_by(there, rule)).ok_or(errno::ENOENT)?;
        self.rules.remove(at);
        Ok(())
    }

    fn delete_route(&mut self, family: Family, metric: u32) -> Result<(), i32> {
        let at = self
            .routes
            .iter()
            .position(|route| route.family == family && route.metric == metric)
            .ok_or(errno::ESRCH)?;
        self.routes.remove(at);
        Ok(())
    }

    fn add_address(&mut self, link: u32, net: IpNet) -> Result<(), i32> {
        if self.addresses.contains(&(link, net)) {
            return Err(errno::EEXIST);
        }
        self.addresses.push((link, net));
        Ok(())
    }

    fn delete_address(&mut self, link: u32, net: &IpNet) -> Result<(), i32> {
        let at = self.addresses.iter().position(|there| *there == (link, *net));
        let at = at.ok_or(errno::EADDRNOTAVAIL)?;
        let beside = |there: &(u32, IpNet)| there.0 == link && there.1.trunc() == net.trunc();
        let primary = !self.addresses[..at].iter().any(beside);
        self.addresses.remove(at);
        if primary && Family::of_net(net) == Family::V4 {
            self.addresses.retain(|there| !beside(there)); // its secondary addresses go with it
        }
        let mut left = self.addresses.iter().filter(|(of, _)| *of == link);
        let any_left = left.any(|(_, net)| Family::of_net(net) == Family::V4);
        if Family::of_net(net) == Family::V4 && !any_left {
            self.flush_routes(link, &[Family::V4]);
        }
        Ok(())
    }

    fn set_next_hops(
        &mut self,
        bridge: u32,
        ours: &Ours,
        family: Family,
        hops: &BTreeSet<IpAddr>,
    ) -> Result<(), i32> {
        let up = self.links.get(&ours.bridge).is_some_and(|link| link.up);
        let nets: Vec<_> =
            self.addresses.iter().filter(|(link, _)| *link == bridge).map(|(_, net)| *net).collect();
        if hops.iter().any(|hop| !up || !nets.iter().any(|net| net.contains(hop))) {
            return Err(match family {
                Family::V4 => errno::ENETUNREACH,
                Family::V6 => errno::EHOSTUNREACH,
            });
        }
        for hop in hops {
            if self.invalid_hops.contains(hop) || nets.iter().any(|net| is_broadcast(net, hop)) {
                return Err(errno::EINVAL);
            }
        }
        let hops = hops.iter().map(|via| Hop { via: *via, device: bridge }).collect();
        self.set_route(ours, family, metric::working(family), RouteTarget::Hops(hops));
        Ok(())
    }

    fn set_route(&mut self, ours: &Ours, family: Family, metric: u32, target: RouteTarget) {
        self.routes.retain(|route| (route.family, route.metric) != (family, metric));
        self.routes.push(Route { family, metric, protocol: ours.protocol, target });
    }

    fn flush_routes(&mut self, device: u32, families: &[Family]) {
        self.routes.retain(|route| {
            let by_device = match &route.target {
                RouteTarget::Hops(hops) => hops.iter().any(|hop| hop.device == device),
                RouteTarget::Blackhole | RouteTarget::Foreign => false,
            };
            !(by_device && families.contains(&route.family))
        });
    }

    fn index(&self, name: &InterfaceName) -> Option<u32> {
        self.links.get(name).map(|link| link.index)
    }

    fn change(&mut self, index: u32, change: impl FnOnce(&mut Link)) -> Result<(), i32> {
        let link = self.links.values_mut().find(|link| link.index == index);
        link.map(change).ok_or(errno::ENODEV)
    }
}

/// Whether an address is the broadcast address of an IPv4 subnet.
fn is_broadcast(net: &IpNet, address: &IpAddr) -> bool {
    matches!(net, IpNet::V4(net) if net.prefix_len() < 31) && net.broadcast() == *address
}

/// Whether Linux takes a rule for the one that a request names: a request without a source also
/// matches rules with one, and the destination of a goto is ignored.
fn found_by(there: &Rule, request: &Rule) -> bool {
    let source = request.source.is_none() || there.source == request.source;
    source && key(there) == key(request) && there.input == request.input
}

/// The parts of a rule that must be equal, but for its input: the family, the priority, and the
/// action with its table.
fn key(rule: &Rule) -> (Family, u32, u8, u32) {
    let (action, table) = match rule.action {
        Action::Lookup(table) => (1, table),
        Action::Goto(_) => (2, 0),
        Action::Blackhole => (6, 0),
    };
    (rule.family, rule.priority, action, table)
}
