// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;

use super::*;
use crate::api::pb::connectioncontext::{IpNeighbor, PolicyRoute, Route};

fn dual(v4: &str, v6: &str) -> Dual<IpNet> {
    Dual { v4: v4.parse().ok(), v6: v6.parse().ok() }
}

fn ours() -> Ours {
    Ours {
        src: dual("172.16.1.6/24", "fd00:0:0:1::6/64"),
        dst: dual("172.16.1.7/24", "fd00:0:0:1::7/64"),
        gateways: dual("172.16.1.1/24", "fd00:0:0:1::1/64"),
    }
}

fn ip(src: &[&str], dst: &[&str], gateways: &[&str]) -> IpContext {
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    IpContext {
        src_ip_addrs: texts(src),
        dst_ip_addrs: texts(dst),
        extra_prefixes: texts(gateways),
        ..IpContext::default()
    }
}

fn via(next_hop: &str, prefix: &str) -> PolicyRoute {
    let route = Route { prefix: prefix.into(), next_hop: next_hop.into() };
    PolicyRoute { from: "20.0.0.1/32".into(), routes: vec![route], ..PolicyRoute::default() }
}

#[test]
fn b13_a_load_balancers_link_gets_the_leases_swapped() {
    let mut context = ip(&["9.9.9.9/32"], &["172.16.1.9/24"], &[]);
    let Ours { src, dst, .. } = ours();
    client(&mut context, &src, &dst, &[]);
    assert_eq!(context.src_ip_addrs, ["172.16.1.7/24", "fd00:0:0:1::7/64"]);
    assert_eq!(context.dst_ip_addrs, ["172.16.1.6/24", "fd00:0:0:1::6/64"]);
    client(&mut context, &src, &dst, &["172.16.9.6/24".parse().unwrap()]);
    assert_eq!(context.dst_ip_addrs, ["172.16.1.6/24", "fd00:0:0:1::6/64", "172.16.9.6/24"]);
}

#[test]
fn a_targets_link_is_addressed_by_the_table() {
    let s4 = "172.16.1.6/24";
    let s6 = "fd00:0:0:1::6/64";
    let d4 = "172.16.1.7/24";
    let d6 = "fd00:0:0:1::7/64";
    let g4 = "172.16.1.1/24";
    let g6 = "fd00:0:0:1::1/64";
    let vip = "20.0.0.1/32";
    let fresh = ip(&[s4, s6], &[d4, d6], &[g4, g6]);
    // rule, before, after
    #[rustfmt::skip]
    let table = [
        ("2 b14 new", ip(&[], &[], &[]), fresh.clone()),
        ("2 gateways without addresses", ip(&[], &[], &["172.16.9.1/24"]), fresh.clone()),
        ("2 b16 another node's", ip(&["172.16.9.6/24", vip], &["172.16.9.7/24"], &["172.16.9.1/24"]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
        ("2 an address of ours that moved", ip(&["172.16.1.99/24", s6], &[d4, d6], &[g4, g6]), fresh.clone()),
        ("2 the gateway as a VIP", ip(&[s4, s6, "172.16.1.1/32", "fd00:0:0:1::1/128"], &[d4, d6], &[g4, g6]), fresh.clone()),
        ("2 another's lease as a VIP", ip(&[s4, s6, "172.16.1.200/32"], &[d4, d6], &[g4, g6]), fresh.clone()),
        ("2 its own lease as a VIP", ip(&[s4, s6, "172.16.1.6/32"], &[d4, d6], &[g4, g6]), fresh.clone()),
        ("2 the old gateway as a VIP", ip(&["172.16.9.6/24", "172.16.9.1/32", vip], &[], &["172.16.9.1/24"]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
        ("2 a prefix around the subnet", ip(&[s4, s6, "172.16.0.0/12", "0.0.0.0/0"], &[d4, d6], &[g4, g6]), fresh.clone()),
        ("2 a lease without its gateway", ip(&["172.16.9.6/24", vip], &[], &[]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
        ("3 what the proxy's side is to have", ip(&[s4, s6], &[d4, d6, "10.96.0.10/32", vip], &[g4, g6]), fresh.clone()),
        ("4 b15 as it was, other order", ip(&[s6, s4, vip], &[d6, d4], &[g6, g4]), ip(&[s6, s4, vip], &[d6, d4], &[g6, g4])),
        ("4 a family is missing", ip(&[s4, vip], &[d4], &[g4]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
        ("4 twice", ip(&[s4, s6, vip, vip, s4], &[d4, d6, d6], &[g4, g6]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
        ("4 only VIPs", ip(&[vip], &[], &[]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
        ("5 l19 a gateway twice", ip(&[s4, s6], &[d4, d6], &[g4, g4, g6]), fresh.clone()),
        ("5 l01 the gateways only", ip(&[s4, s6], &[d4, d6], &["172.16.9.1/24"]), fresh.clone()),
    ];
    for (rule, mut before, after) in table {
        endpoint(&mut before, &ours(), None).unwrap();
        assert_eq!(before, after, "{rule}");
    }
}

#[test]
fn a_vip_is_a_prefix_that_the_trench_lists() {
    let list: Vec<IpNet> =
        ["20.0.0.1/32", "40.0.0.0/24", "2001:db8::1/128"].iter().map(|vip| vip.parse().unwrap()).collect();
    let sent =
        ["20.0.0.1", "40.0.0.0/24", "40.0.0.7/32", "10.96.0.10/32", "2001:db8::1/128", "172.16.1.9/32"];
    let kept = |vips: Option<&[IpNet]>| {
        let mut context = ip(&sent, &[], &[]);
        let unlisted = unlisted(&context, &ours(), vips);
        endpoint(&mut context, &ours(), vips).unwrap();
        assert!(self::unlisted(&context, &ours(), vips).is_empty());
        (context.src_ip_addrs[2..].to_vec(), unlisted.iter().map(IpNet::to_string).collect::<Vec<_>>())
    };
    let (listed, unlisted) = kept(Some(&list));
    assert_eq!(listed, ["20.0.0.1", "40.0.0.0/24", "2001:db8::1/128"]);
    assert_eq!(unlisted, ["40.0.0.7/32", "10.96.0.10/32"]);
    let (hosts, unlisted) = kept(None);
    assert_eq!(hosts, ["20.0.0.1", "40.0.0.7/32", "10.96.0.10/32", "2001:db8::1/128"]);
    assert!(unlisted.is_empty(), "{unlisted:?}");
    assert_eq!(kept(Some(&[])).0, Vec::<String>::new());
}

fn route(prefix: &str, next_hop: &str) -> Route {
    Route { prefix: prefix.into(), next_hop: next_hop.into() }
}

#[test]
fn only_host_routes_to_the_target_are_made_here() {
    let mut context = ip(&[], &[], &[]);
    let own = [route("172.16.1.6/32", ""), route("fd00:0:0:1::6", "")];
    let foreign = [
        route("0.0.0.0/0", ""),
        route("::/0", ""),
        route("10.96.0.0/16", ""),
        route("172.16.1.6/24", ""),
        route("172.16.1.6/32", "172.16.1.9"),
        route("172.16.1.9/32", ""),
        route("banana", ""),
    ];
    context.dst_routes = [&own[..], &foreign[..]].concat();
    let hardware_address = "02:00:00:00:00:01".to_owned();
    context.ip_neighbors = vec![IpNeighbor { ip: "172.16.1.1".into(), hardware_address }];
    endpoint(&mut context, &ours(), None).unwrap();
    assert_eq!((context.dst_routes, context.ip_neighbors), (own.to_vec(), vec![]));
}

#[test]
fn a_value_that_cannot_be_read_is_named_and_changes_nothing() {
    let policy = |policy: PolicyRoute| IpContext { policies: vec![policy], ..IpContext::default() };
    let from = |from: &str| PolicyRoute { from: from.into(), ..PolicyRoute::default() };
    let port = |dst_port: &str| PolicyRoute { dst_port: dst_port.into(), ..PolicyRoute::default() };
    let routed = |route| PolicyRoute { routes: vec![route], ..PolicyRoute::default() };
    let excluded = |text: &str| IpContext { excluded_prefixes: vec![text.into()], ..IpContext::default() };
    let src_route = |route| IpContext { src_routes: vec![route], ..IpContext::default() };
    let table = [
        (ip(&["banana"], &[], &[]), "src_ip_addrs", "`banana`"),
        (ip(&[], &["20.0.0.1/33"], &[]), "dst_ip_addrs", "`20.0.0.1/33`"),
        (excluded("10.0.0.0/"), "excluded_prefixes", "`10.0.0.0/`"),
        (src_route(route("all", "")), "src_routes.prefix", "`all`"),
        (src_route(route("0.0.0.0/0", "there")), "src_routes.next_hop", "`there` (accepted: an address"),
        (policy(from("vip")), "policies.from", "`vip`"),
        (policy(port("http")), "policies.dst_port", "`http` (accepted: a port"),
        (policy(port("1-2-3")), "policies.dst_port", "`1-2-3`"),
        (policy(routed(route("0.0.0.0/0", "172.16.1.1/24"))), "policies.routes.next_hop", "`172.16.1.1/24`"),
    ];
    for (before, field, value) in table {
        let mut context = before.clone();
        let refused = endpoint(&mut context, &ours(), None).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, Reason::Invalid(_)), "{text}");
        assert!(text.contains(&format!("ip_context.{field}: ")) && text.contains(value), "{text}");
        assert_eq!(context, before);
    }
    let mut good = policy(PolicyRoute { src_port: "80".into(), dst_port: "1-65535".into(), ..from("") });
    endpoint(&mut good, &ours(), None).unwrap();
}

#[test]
fn a_lease_that_overlaps_an_excluded_prefix_is_refused() {
    let refused = |src: &[&str], excluded: &str| {
        let mut context = ip(src, &[], &[]);
        context.excluded_prefixes = vec!["10.96.0.0/12".into(), excluded.into()];
        endpoint(&mut context, &ours(), None).err().map(|refused| refused.to_string())
    };
    for excluded in ["172.16.0.0/12", "172.16.1.0/24", "172.16.1.128/25", "fd00::/8", "::/0"] {
        let text = refused(&[], excluded).unwrap();
        assert!(text.contains(excluded) && text.contains("::6/64") | text.contains(".6/24"), "{text}");
    }
    assert_eq!(refused(&[], "172.16.2.0/24"), None);
    assert_eq!(refused(&["172.16.1.6/24"], "172.16.0.0/12"), None, "a link that stands is kept");
    assert!(refused(&["20.0.0.1/32"], "172.16.0.0/12").is_some());
}

#[test]
fn b16_policies_follow_the_gateway_of_their_family() {
    let hops = |context: &IpContext| -> Vec<String> {
        context.policies.iter().map(|policy| policy.routes[0].next_hop.clone()).collect()
    };
    let mut context = ip(&["172.16.9.6/24"], &["172.16.9.7/24"], &["172.16.9.1/24", "fd00:0:0:9::1/64"]);
    context.policies =
        vec![via("172.16.9.1", "0.0.0.0/0"), via("fd00:0:0:9::1", "::/0"), via("172.16.9.1", "")];
    endpoint(&mut context, &ours(), None).unwrap();
    assert_eq!(hops(&context), ["172.16.1.1", "fd00:0:0:1::1", "172.16.1.1"]);

    let mut context = ip(&["172.16.9.6/24"], &["172.16.9.7/24"], &["172.16.9.1/24"]);
    context.policies = vec![via("fd00:0:0:9::1", "::/0")];
    endpoint(&mut context, &Ours { gateways: dual("172.16.1.1/24", ""), ..ours() }, None).unwrap();
    assert_eq!(hops(&context), ["fd00:0:0:9::1"], "without a gateway of its family it stays");
}

#[test]
fn g17_a_family_without_a_gateway_is_found() {
    assert_eq!(ours().without_gateway(), None);
    let only_v4 = Ours { gateways: dual("172.16.1.1/24", ""), ..ours() };
    assert_eq!(only_v4.without_gateway(), only_v4.src.v6);
    let only_dst = Ours { src: Dual::NONE, gateways: Dual::NONE, ..ours() };
    assert_eq!(only_dst.without_gateway(), only_dst.dst.v4);
}

fn vip() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u8..4).prop_map(|n| format!("20.0.0.{n}/32")),
        (0u8..4).prop_map(|n| format!("172.16.1.{n}/32")),
        (0u8..4).prop_map(|n| format!("2001:db8::{n}/128")),
    ]
}

fn address() -> impl Strategy<Value = String> {
    let v4 = (0u8..3, 1u8..9).prop_map(|(node, host)| format!("172.16.{node}.{host}/24"));
    let v6 = (0u8..3, 1u8..9).prop_map(|(node, host)| format!("fd00:0:0:{node}::{host}/64"));
    prop_oneof![v4, v6]
}

fn list() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop_oneof![vip(), address()], 0..8)
}

proptest! {
    #[test]
    fn g35_the_lease_and_vips_stay_each_once_and_nothing_else(
        src in list(), dst in list(), old in prop::collection::vec(address(), 0..3)
    ) {
        let before = IpContext {
            src_ip_addrs: src.clone(), dst_ip_addrs: dst, extra_prefixes: old.clone(), ..IpContext::default()
        };
        let mut context = before.clone();
        endpoint(&mut context, &ours(), None).unwrap();

        let subnets: Vec<IpNet> = old.iter().chain(&texts(&ours().gateways)).map(|net| net.parse().unwrap()).collect();
        let mut vips: Vec<_> = src.iter().filter(|text| {
            let net = parse_prefix(text).unwrap();
            net.prefix_len() == net.max_prefix_len() && !subnets.iter().any(|subnet| subnet.contains(&net))
        }).collect();
        let mut seen = HashSet::new();
        vips.retain(|vip| seen.insert(*vip));
        let own = texts(&ours().src);
        let others = context.src_ip_addrs.iter().filter(|text| !own.contains(text));
        prop_assert_eq!(others.collect::<Vec<_>>(), vips);
        for (list, own) in [(&context.src_ip_addrs, own), (&context.dst_ip_addrs, texts(&ours().dst))] {
            prop_assert!(own.iter().all(|address| list.iter().filter(|text| *text == address).count() == 1), "{:?}", list);
        }
        prop_assert_eq!(context.dst_ip_addrs.len(), 2);
        let gateways: HashSet<_> = context.extra_prefixes.iter().cloned().collect();
        prop_assert_eq!(gateways, texts(&ours().gateways).into_iter().collect::<HashSet<_>>());

        let once = context.clone();
        endpoint(&mut context, &ours(), None).unwrap();
        prop_assert_eq!(context, once);
    }
}
