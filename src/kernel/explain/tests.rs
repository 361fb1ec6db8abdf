// SPDX-License-Identifier: Apache-2.0

//! Tests the walks over views, one for each place where a packet can be dropped.

use super::*;
use crate::{
    api::InterfaceName,
    kernel::{Action, Hop, Link, LinkKind, Route, RouteTarget, Rule, vip_rules, wrong_sysctls},
};

const VIP: &str = "20.0.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn link(index: u32, alias: Option<&str>) -> Link {
    Link {
        index,
        mac: Some(mac(100 + index as u8)),
        alias: alias.map(str::to_owned),
        up: true,
        running: true,
        controller: Some(1),
        kind: LinkKind::Other,
    }
}

/// A bridge with two load balancers and a target: 172.16.0.2 and .3 behind nsm-2 and nsm-3, and
/// 172.16.0.4 behind nsm-4.
fn view() -> View {
    let ours = Ours::default();
    let mut view = View::default();
    let bridge = Link { controller: None, kind: LinkKind::Bridge, ..link(1, None) };
    view.observed.links.insert(ours.bridge.clone(), bridge);
    view.observed.addresses.insert("172.16.0.1/24".parse().unwrap());
    let hops = [2, 3].map(|last| Hop { via: ip(&format!("172.16.0.{last}")), device: 1 });
    let route = |metric, target| Route { family: Family::V4, metric, protocol: 200, target };
    view.observed.routes =
        vec![route(4000, RouteTarget::Blackhole), route(0, RouteTarget::Hops(hops.into()))];
    view.observed.rules = vip_rules(&ours, &[format!("{VIP}/32").parse().unwrap()]).into_iter().collect();
    view.observed.rules.push(Rule::leak_stop(&ours, Family::V4, &ours.bridge));
    view.observed.rules.push(main());
    for (last, alias) in [(2, "server-lb-1"), (3, "server-lb-2"), (4, "client-target-1")] {
        view.observed.links.insert(name(&format!("nsm-{last}")), link(last, Some(alias)));
        let entry = Neighbour { mac: Some(mac(last as u8)), state: "Reachable".into() };
        view.neighbours.insert(ip(&format!("172.16.0.{last}")), entry);
        view.fdb.insert(mac(last as u8), Forward { port: last, local: false });
        view.counters.insert(last, Statistics { rx_packets: last.into(), ..Statistics::default() });
    }
    view
}

fn main() -> Rule {
    let action = Action::Lookup(254);
    Rule { priority: 32766, family: Family::V4, source: None, input: None, action, protocol: 2 }
}

fn walks(view: &View, address: &str) -> Explanation {
    explain(view, &Ours::default(), ip(address))
}

/// The outcome and the cause of the walk from the VIP.
fn from_vip(view: &View) -> (Outcome, String) {
    let walk = from::walk(view, &Ours::default(), ip(VIP));
    (walk.outcome.clone(), walk.cause().unwrap_or_default().to_owned())
}

fn to(view: &View, address: &str) -> (Outcome, String) {
    let explanation = walks(view, address);
    let walk = explanation.walks.last().unwrap();
    (walk.outcome.clone(), walk.cause().unwrap_or_default().to_owned())
}

fn dies_of((outcome, cause): (Outcome, String), expected: &str) {
    assert_eq!(outcome, Outcome::Dies, "{cause}");
    assert!(cause.contains(expected), "{cause}");
}

#[test]
fn a_vip_passes_by_rule_route_neighbour_and_port() {
    let explanation = walks(&view(), VIP);
    assert!(explanation.passes() && explanation.role == Role::Vip, "{explanation:#?}");
    let [from, to] = &*explanation.walks else { panic!("{explanation:#?}") };
    let kinds = |steps: &[Step]| steps.iter().map(|step| step.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&from.steps), [StepKind::Bridge, StepKind::Rule, StepKind::Route]);
    assert_eq!(from.branches.len(), 2);
    assert_eq!(
        kinds(&from.branches[0].steps),
        [StepKind::NextHop, StepKind::Neighbour, StepKind::Fdb, StepKind::Port]
    );
    assert_eq!(from.branches[0].steps[3].counters.map(|all| all.rx_packets), Some(2));
    assert_eq!(kinds(&to.branches[0].steps), [StepKind::Port, StepKind::Fdb]);
    assert_eq!(to.branches[0].steps[1].object, "02:00:00:00:00:04 on nsm-4");
}

#[test]
fn a_target_is_reached_by_neighbour_and_port() {
    let explanation = walks(&view(), "172.16.0.4");
    assert!(explanation.passes() && explanation.role == Role::InSubnet, "{explanation:#?}");
    assert_eq!(walks(&view(), "172.16.0.2").role, Role::NextHop);
    assert_eq!(walks(&view(), "172.16.0.1").role, Role::Gateway);
}

#[test]
fn without_the_bridge_nothing_passes() {
    let mut view = view();
    let bridge = Ours::default().bridge;
    view.observed.links.get_mut(&bridge).unwrap().up = false;
    dies_of(from_vip(&view), "bridge0 is down");
    dies_of(to(&view, VIP), "bridge0 is down");
    view.observed.links.get_mut(&bridge).unwrap().kind = LinkKind::Other;
    dies_of(from_vip(&view), "bridge0 is not a bridge");
    view.observed.links.remove(&bridge);
    dies_of(from_vip(&view), "there is no bridge0");
    dies_of(to(&view, "172.16.0.4"), "there is no bridge0");
}

#[test]
fn a_sysctl_that_stops_forwarding_drops_with_its_repair() {
    let mut view = view();
    let needed = wrong_sysctls(&[], &Ours::default().bridge);
    assert!(needed.is_empty());
    view.wrong_sysctls = vec![WrongSysctl {
        family: Family::V4,
        key: "net.ipv4.conf.all.forwarding".into(),
        value: Ok("0".into()),
        needed: "1",
        breaks: "no packet is forwarded",
        stops: true,
    }];
    dies_of(from_vip(&view), "sysctl -w net.ipv4.conf.all.forwarding=1");
    view.wrong_sysctls[0].stops = false;
    assert_eq!(from_vip(&view).0, Outcome::Passes);
    view.wrong_sysctls[0].stops = true;
    view.wrong_sysctls[0].family = Family::V6;
    assert_eq!(from_vip(&view).0, Outcome::Passes);
}

#[test]
fn without_its_rule_a_vip_is_dropped_before_table_main() {
    let mut view = view();
    view.observed.rules.retain(|rule| rule.source.is_none());
    assert_eq!(walks(&view, VIP).role, Role::Unknown);
    dies_of(from_vip(&view), "20.0.0.1 is not a VIP");
    dies_of(to(&view, VIP), "neither a VIP nor in a subnet of bridge0 (172.16.0.0/24)");
}

#[test]
fn without_the_leak_stop_a_packet_that_is_no_vips_leaks() {
    let mut view = view();
    view.observed.rules = vec![main()];
    dies_of(from_vip(&view), "leaves by the primary network");
    view.observed.rules.clear();
    dies_of(from_vip(&view), "no rule leads to a route");
}

#[test]
fn another_programs_table_or_route_is_named() {
    let mut view = view();
    let before = Rule { priority: 100, action: Action::Lookup(77), ..main() };
    view.observed.rules.push(before);
    dies_of(from_vip(&view), "another program's table");
    view.observed.rules.pop();
    view.observed.routes[1].target = RouteTarget::Foreign;
    dies_of(from_vip(&view), "another program's route");
}

#[test]
fn a_tree_of_rules_is_followed_by_its_gotos() {
    let mut view = view();
    let vips: Vec<_> = (0..=255).map(|last| format!("20.0.{last}.1/32").parse().unwrap()).collect();
    let rules = vip_rules(&Ours::default(), &vips);
    assert!(rules.iter().any(|rule| matches!(rule.action, Action::Goto(_))));
    view.observed.rules.retain(|rule| rule.source.is_none());
    view.observed.rules.extend(rules);
    let explanation = walks(&view, "20.0.77.1");
    assert!(explanation.passes(), "{explanation:#?}");
    let rules = explanation.walks[0].steps.iter().filter(|step| step.kind == StepKind::Rule).count();
    assert!(rules > 1, "{explanation:#?}");
    dies_of(
        {
            let walk = from::walk(&view, &Ours::default(), ip("20.0.77.2"));
            (walk.outcome.clone(), walk.cause().unwrap_or_default().to_owned())
        },
        "is not a VIP",
    );
}

#[test]
fn a_goto_without_a_destination_is_skipped() {
    let mut view = view();
    view.observed.rules.push(Rule { priority: 1, action: Action::Goto(7), ..main() });
    assert_eq!(from_vip(&view).0, Outcome::Passes);
    assert_eq!(
        walks(&view, VIP).walks[0].steps[1].note.as_deref(),
        Some("no rule has this priority, so it is skipped")
    );
}

#[test]
fn without_a_next_hop_the_blackhole_drops() {
    let mut view = view();
    view.observed.routes.pop();
    dies_of(from_vip(&view), "no load balancer is a next hop");
    view.observed.routes.clear();
    dies_of(from_vip(&view), "is not a VIP: no rule leads to table 1");
}

#[test]
fn a_silent_next_hop_drops_its_share_of_the_flows() {
    for state in ["Failed", "Incomplete"] {
        let mut view = view();
        view.neighbours.insert(ip("172.16.0.2"), Neighbour { mac: None, state: state.into() });
        assert_eq!(from_vip(&view).0, Outcome::Partly { passing: 1, of: 2 });
        assert!(from_vip(&view).1.contains("172.16.0.2 does not answer"));
        view.neighbours.insert(ip("172.16.0.3"), Neighbour { mac: None, state: state.into() });
        dies_of(from_vip(&view), "172.16.0.2 does not answer");
        dies_of(to(&view, "172.16.0.2"), "172.16.0.2 does not answer");
    }
}

#[test]
fn a_port_that_is_down_without_carrier_or_gone_drops() {
    type Break = fn(&mut Link);
    let cases: [(&str, Break); 3] = [
        ("nsm-2 is down", |link| link.up = false),
        ("nsm-2 has no carrier", |link| link.running = false),
        ("nsm-2 is not a port of bridge0", |link| link.controller = None),
    ];
    for (cause, change) in cases {
        let mut view = view();
        change(view.observed.links.get_mut(&name("nsm-2")).unwrap());
        assert_eq!(from_vip(&view).0, Outcome::Partly { passing: 1, of: 2 });
        dies_of(to(&view, "172.16.0.2"), cause);
    }
    let mut view = view();
    view.observed.links.remove(&name("nsm-2"));
    dies_of(to(&view, "172.16.0.2"), "the port with index 2 is gone");
}

#[test]
fn an_address_of_the_proxys_own_link_is_named() {
    let mut view = view();
    view.fdb.insert(mac(2), Forward { port: 2, local: true });
    dies_of(to(&view, "172.16.0.2"), "the proxy's own link");
}

#[test]
fn unknown_neighbours_and_macs_are_notes() {
    let mut view = view();
    view.fdb.clear();
    assert_eq!(from_vip(&view).0, Outcome::Passes);
    assert_eq!(to(&view, VIP).0, Outcome::Passes);
    view.neighbours.clear();
    assert_eq!(from_vip(&view).0, Outcome::Passes);
}

#[test]
fn without_a_target_packets_to_a_vip_are_dropped() {
    let mut view = view();
    view.observed.links.get_mut(&name("nsm-4")).unwrap().running = false;
    dies_of(to(&view, VIP), "nsm-4 has no carrier");
    view.observed.links.remove(&name("nsm-4"));
    dies_of(to(&view, VIP), "no target of this node is connected");
}

#[test]
fn a_port_without_an_alias_is_a_targets_unless_a_next_hop_is_behind() {
    let mut view = view();
    view.observed.links.values_mut().for_each(|link| link.alias = None);
    let explanation = walks(&view, VIP);
    let branches = &explanation.walks[1].branches;
    assert_eq!(branches.len(), 1, "{branches:#?}");
    assert_eq!(branches[0].steps[0].object, "nsm-4");
}

#[test]
fn an_address_that_nobody_can_have_is_refused() {
    for text in ["", "lb-1", "20.0.0.1/32", "20.0.0", "fe80::1", "::", "127.0.0.1", "ff02::1", "224.0.0.1"] {
        let error = address(text).unwrap_err();
        assert!(error.contains("the IPv4 or IPv6 address of a VIP"), "{text}: {error}");
    }
    for text in ["255.255.255.255", "::ffff:20.0.0.1", "fe80::1%eth0", "20.0.0.1 "] {
        assert!(address(text).is_err(), "{text}");
    }
    assert_eq!(address("2000::1"), Ok(ip("2000::1")));
}
