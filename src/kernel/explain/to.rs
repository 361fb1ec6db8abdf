// SPDX-License-Identifier: Apache-2.0

//! The walk of a frame over the bridge, to a port.

use std::net::IpAddr;

use super::{Branch, Role, Step, StepKind, View, Walk};
use crate::{
    api::{Family, InterfaceName},
    kernel::{self, Link, Mac, Ours, PeerId},
};

/// The walk of a packet to a VIP. A load balancer chooses the target and sends the frame to its
/// address, so that every port of a target is a branch.
pub(super) fn vip(view: &View, ours: &Ours, vip: IpAddr) -> Walk {
    let bridge = bridge(view, ours);
    let mut branches: Vec<_> = match bridge.dies {
        None => targets(view, ours).map(|(name, link)| target(view, name, link)).collect(),
        Some(_) => Vec::new(),
    };
    let mut steps = vec![bridge];
    if branches.is_empty() && steps[0].dies.is_none() {
        let none = Step::new(StepKind::Port, "none towards a target");
        steps.push(none.dies("no target of this node is connected"));
    }
    branches.sort_by(|one, other| one.steps[0].object.cmp(&other.steps[0].object));
    Walk::new(format!("to {vip}"), steps, branches)
}

/// The ports behind which no load balancer is.
fn targets<'a>(view: &'a View, ours: &Ours) -> impl Iterator<Item = (&'a InterfaceName, &'a Link)> {
    let observed = &view.observed;
    let bridge = observed.bridge(ours).map_or(0, |bridge| bridge.index);
    observed.ports_of(bridge).filter(move |(_, link)| !is_of_load_balancer(view, link))
}

/// Whether a port leads to a load balancer: a forwarder names it so, or a next hop is behind it.
fn is_of_load_balancer(view: &View, link: &Link) -> bool {
    if let Some(peer) = link.alias.as_deref().and_then(PeerId::of_alias) {
        return peer.role == kernel::Role::LoadBalancer;
    }
    let hops = Family::BOTH.into_iter().flat_map(|family| view.observed.next_hops(family));
    let macs = hops.filter_map(|hop| view.neighbours.get(&hop.via)?.mac);
    macs.filter_map(|mac| view.fdb.get(&mac)).any(|forward| forward.port == link.index)
}

fn target(view: &View, name: &InterfaceName, link: &Link) -> Branch {
    let port = port(view, name, link);
    if port.dies.is_some() {
        return Branch { steps: vec![port] };
    }
    let behind = view.fdb.iter().filter(|(_, forward)| forward.port == link.index && !forward.local);
    let mut entries: Vec<_> =
        behind.map(|(mac, _)| Step::new(StepKind::Fdb, format!("{mac} on {name}"))).collect();
    if entries.is_empty() {
        let silent = "the target has not sent a frame for minutes; frames to it go to every port";
        entries.push(Step::new(StepKind::Fdb, format!("nothing behind {name}")).note(silent));
    }
    Branch { steps: std::iter::once(port).chain(entries).collect() }
}

/// The walk of a packet to the address of a target or of a load balancer.
pub(super) fn peer(view: &View, ours: &Ours, address: IpAddr) -> Walk {
    let mut steps = vec![bridge(view, ours)];
    if steps[0].dies.is_none() {
        steps.extend(behind_the_bridge(view, ours, address));
    }
    Walk::new(format!("to {address}"), steps, Vec::new())
}

fn behind_the_bridge(view: &View, ours: &Ours, address: IpAddr) -> Vec<Step> {
    let bridge = &ours.bridge;
    match super::role(view, ours, address) {
        Role::Gateway => {
            vec![Step::new(
                StepKind::Bridge,
                format!("{address} is an address of {bridge}: a gateway of targets"),
            )]
        }
        Role::Unknown => {
            let subnets: Vec<_> = view.observed.addresses.iter().map(|net| net.trunc().to_string()).collect();
            let subnets = if subnets.is_empty() { "none".to_owned() } else { subnets.join(", ") };
            let why = format!("{address} is neither a VIP nor in a subnet of {bridge} ({subnets})");
            vec![Step::new(StepKind::Route, format!("none to {address}")).dies(why)]
        }
        Role::NextHop | Role::InSubnet | Role::Vip => hop(view, ours, address),
    }
}

/// The steps to a neighbour on the bridge: its entry, the forwarding database, the port.
pub(super) fn hop(view: &View, ours: &Ours, via: IpAddr) -> Vec<Step> {
    let installed = view.observed.next_hops(Family::of(via)).any(|hop| hop.via == via);
    let mut steps: Vec<_> =
        installed.then(|| Step::new(StepKind::NextHop, via.to_string())).into_iter().collect();
    let entry = Step::new(StepKind::Neighbour, via.to_string());
    let Some(neighbour) = view.neighbours.get(&via) else {
        steps.push(entry.note("no entry: the kernel asks for it with the first packet"));
        return steps;
    };
    let state = &neighbour.state;
    let Some(mac) = neighbour.mac.filter(|_| state != "Failed") else {
        let why = format!("{via} does not answer ARP or neighbour solicitations ({state})");
        steps.push(entry.dies(why));
        return steps;
    };
    steps.push(Step::new(StepKind::Neighbour, format!("{via} lladdr {mac} {state}")));
    steps.extend(behind(view, ours, mac));
    steps
}

/// The entry of the forwarding database and the port.
fn behind(view: &View, ours: &Ours, mac: Mac) -> Vec<Step> {
    let Some(forward) = view.fdb.get(&mac) else {
        let silent = "no frame from it for minutes; frames to it go to every port";
        return vec![Step::new(StepKind::Fdb, mac.to_string()).note(silent)];
    };
    let found = view.observed.links.iter().find(|(_, link)| link.index == forward.port);
    let Some((name, link)) = found else {
        let gone = format!("the port with index {} is gone", forward.port);
        return vec![Step::new(StepKind::Fdb, mac.to_string()).dies(gone)];
    };
    let entry = Step::new(StepKind::Fdb, format!("{mac} on {name}"));
    if forward.local {
        return vec![entry.dies("the MAC address is that of the proxy's own link")];
    }
    let port = port(view, name, link);
    let detached = view.observed.bridge(ours).map(|bridge| bridge.index) != link.controller;
    vec![entry, if detached { port.dies(format!("{name} is not a port of {}", ours.bridge)) } else { port }]
}

fn port(view: &View, name: &InterfaceName, link: &Link) -> Step {
    let alias = link.alias.as_ref().map(|alias| format!(" ({alias})")).unwrap_or_default();
    let mut port = Step::new(StepKind::Port, format!("{name}{alias}"));
    port.counters = view.counters.get(&link.index).copied();
    match (link.up, link.running) {
        (false, _) => port.dies(format!("{name} is down: ip link set {name} up")),
        (true, false) => port.dies(format!("{name} has no carrier: its far end is down or gone")),
        (true, true) => port,
    }
}

/// The bridge itself.
pub(super) fn bridge(view: &View, ours: &Ours) -> Step {
    let name = &ours.bridge;
    let step = Step::new(StepKind::Bridge, name.to_string());
    let Some(bridge) = view.observed.bridge(ours) else {
        return step.dies(match view.observed.link(name) {
            Some(_) => format!("{name} is not a bridge"),
            None => format!("there is no {name}: no proxy has run in this network namespace"),
        });
    };
    let addresses: Vec<_> = view.observed.addresses.iter().map(ToString::to_string).collect();
    let ports = view.observed.ports_of(bridge.index).count();
    let step = Step {
        counters: view.counters.get(&bridge.index).copied(),
        ..step.note(format!("{ports} ports, addresses: {}", addresses.join(", ")))
    };
    match bridge.up {
        true => step,
        false => step.dies(format!("{name} is down: ip link set {name} up")),
    }
}

/// Sysctls with wrong values that concern a family.
pub(super) fn sysctls(view: &View, family: Family) -> impl Iterator<Item = Step> {
    view.wrong_sysctls.iter().filter(move |wrong| wrong.family == family).map(|wrong| {
        let value = wrong.value.as_deref().unwrap_or("unreadable");
        let step = Step::new(StepKind::Sysctl, format!("{} = {value}", wrong.key));
        let repair = format!("{}: sysctl -w {}={}", wrong.breaks, wrong.key, wrong.needed);
        if wrong.stops { step.dies(repair) } else { step.note(repair) }
    })
}
