// SPDX-License-Identifier: Apache-2.0

//! Decide what a connection's IP context says. `src` is the client's side of a link, `dst` the endpoint's.
//!
//! Towards a load balancer, where the proxy is the client:
//! 1. `src` gets the addresses of the lease `<id>-dst` and `dst` those of `<id>-src`. The names are swapped, as the Go proxy swaps
//!    them, so that a replaced proxy finds the addresses that its predecessor allocated. Both lists are overwritten.
//!
//! Towards a target, where the proxy is the endpoint:
//! 2. Neither list has an address: a new link. `src` gets the lease `<id>-src`, `dst` gets `<id>-dst`.
//! 3. An address of a node's subnet that is not ours (any more) goes: one whose network is that of a gateway, old or new. A VIP is a
//!    host prefix and stays, also within such a subnet. So does what cannot be parsed.
//! 4. What is missing of ours is put in front, IPv4 first; what is there twice goes. A list in which nothing is missing, foreign or
//!    twice is left as it is, in its order.
//! 5. The gateways are exactly ours. If they were others, the next hops of all policies become ours, by family.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::api::{Dual, Family, parse_prefix, pb::connectioncontext::IpContext};

/// What a target's link is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Addresses of the target.
    pub src: Dual<IpNet>,
    /// Addresses of the proxy's port.
    pub dst: Dual<IpNet>,
    /// Addresses of the bridge.
    pub gateways: Dual<IpNet>,
}

impl Ours {
    /// The first family with an address but without a gateway.
    pub fn without_gateway(&self) -> Option<Family> {
        self.src.families().chain(self.dst.families()).find(|family| self.gateways.get(*family).is_none())
    }
}

/// Rule 1.
pub fn client(ip: &mut IpContext, src_lease: &Dual<IpNet>, dst_lease: &Dual<IpNet>) {
    ip.src_ip_addrs = texts(dst_lease);
    ip.dst_ip_addrs = texts(src_lease);
}

/// Rules 2 to 5.
///
/// ```
/// # use meridio_proxy::{api::{Dual, pb::connectioncontext::IpContext}, elements::ipam::rules::{self, Ours}};
/// let v4 = |text: &str| Dual { v4: text.parse().ok(), v6: None };
/// let ours = Ours { src: v4("172.16.1.6/24"), dst: v4("172.16.1.7/24"), gateways: v4("172.16.1.1/24") };
/// let mut ip = IpContext::default();
/// rules::endpoint(&mut ip, &ours);
/// assert_eq!(ip.src_ip_addrs, ["172.16.1.6/24"]);
/// ip.src_ip_addrs.push("20.0.0.1/32".into()); // the target adds a VIP
/// rules::endpoint(&mut ip, &ours);
/// assert_eq!((ip.src_ip_addrs.len(), &*ip.extra_prefixes), (2, &["172.16.1.1/24".to_owned()][..]));
/// ```
pub fn endpoint(ip: &mut IpContext, ours: &Ours) {
    if ip.src_ip_addrs.is_empty() && ip.dst_ip_addrs.is_empty() {
        ip.src_ip_addrs = texts(&ours.src);
        ip.dst_ip_addrs = texts(&ours.dst);
    } else {
        let subnets = subnets(&ip.extra_prefixes, &ours.gateways);
        renew(&mut ip.src_ip_addrs, &ours.src, &subnets);
        renew(&mut ip.dst_ip_addrs, &ours.dst, &subnets);
    }
    let gateways: HashSet<IpNet> = ours.gateways.iter().map(|(_, net)| *net).collect();
    let there: HashSet<IpNet> = ip.extra_prefixes.iter().filter_map(|text| parse_prefix(text).ok()).collect();
    if there != gateways || ip.extra_prefixes.len() != gateways.len() {
        ip.extra_prefixes = texts(&ours.gateways);
        redirect(ip, &ours.gateways);
    }
}

/// Networks of all gateways, old and new. A host prefix is nobody's subnet.
fn subnets(old: &[String], new: &Dual<IpNet>) -> HashSet<IpNet> {
    let old = old.iter().filter_map(|text| parse_prefix(text).ok());
    let all = old.chain(new.iter().map(|(_, net)| *net));
    all.filter(|net| net.prefix_len() < net.max_prefix_len()).map(|net| net.trunc()).collect()
}

/// Rules 3 and 4.
fn renew(list: &mut Vec<String>, ours: &Dual<IpNet>, subnets: &HashSet<IpNet>) {
    let before = list.len();
    let mut seen = HashSet::new();
    let mut missing: Vec<IpNet> = ours.iter().map(|(_, net)| *net).collect();
    list.retain(|text| match parse_prefix(text) {
        Ok(net) if missing.contains(&net) => {
            missing.retain(|other| *other != net);
            seen.insert(net.to_string())
        }
        Ok(net) => !subnets.contains(&net.trunc()) && seen.insert(net.to_string()),
        Err(_) => seen.insert(text.clone()),
    });
    if missing.is_empty() && list.len() == before {
        return;
    }
    let own = texts(ours);
    list.retain(|text| parse_prefix(text).map_or(true, |net| !own.contains(&net.to_string())));
    list.splice(0..0, own);
}

/// Second half of rule 5.
fn redirect(ip: &mut IpContext, gateways: &Dual<IpNet>) {
    for route in ip.policies.iter_mut().flat_map(|policy| &mut policy.routes) {
        let towards = parse_prefix(&route.prefix).or_else(|_| parse_prefix(&route.next_hop));
        if let Some(gateway) = towards.ok().and_then(|net| gateways.get(Family::of_net(&net))) {
            route.next_hop = gateway.addr().to_string();
        }
    }
}

/// As text, IPv4 first.
fn texts(nets: &Dual<IpNet>) -> Vec<String> {
    nets.iter().map(|(_, net)| net.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::pb::connectioncontext::{PolicyRoute, Route};

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
    fn b13_a_load_balancers_link_gets_the_leases_swapped_whatever_was_there() {
        let mut context = ip(&["9.9.9.9/32"], &["172.16.1.9/24"], &[]);
        let Ours { src, dst, .. } = ours();
        client(&mut context, &src, &dst);
        assert_eq!(context.src_ip_addrs, ["172.16.1.7/24", "fd00:0:0:1::7/64"]);
        assert_eq!(context.dst_ip_addrs, ["172.16.1.6/24", "fd00:0:0:1::6/64"]);
    }

    #[test]
    fn a_targets_link_is_addressed_by_the_table() {
        let (s4, s6, d4, d6) = ("172.16.1.6/24", "fd00:0:0:1::6/64", "172.16.1.7/24", "fd00:0:0:1::7/64");
        let (g4, g6, vip) = ("172.16.1.1/24", "fd00:0:0:1::1/64", "20.0.0.1/32");
        let fresh = ip(&[s4, s6], &[d4, d6], &[g4, g6]);
        // rule, before, after
        #[rustfmt::skip]
        let table = [
            ("2 b14 new", ip(&[], &[], &[]), fresh.clone()),
            ("2 gateways without addresses", ip(&[], &[], &["172.16.9.1/24"]), fresh.clone()),
            ("3 b16 another node's", ip(&["172.16.9.6/24", vip], &["172.16.9.7/24"], &["172.16.9.1/24"]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
            ("3 an address of ours that moved", ip(&["172.16.1.99/24", s6], &[d4, d6], &[g4, g6]), fresh.clone()),
            ("3 a VIP within the subnet", ip(&[s4, s6, "172.16.1.200/32"], &[d4, d6], &[g4, g6]), ip(&[s4, s6, "172.16.1.200/32"], &[d4, d6], &[g4, g6])),
            ("3 nonsense stays", ip(&["banana", s4, s6], &[d4, d6], &[g4, g6]), ip(&["banana", s4, s6], &[d4, d6], &[g4, g6])),
            ("4 b15 as it was, other order", ip(&[s6, s4, vip], &[d6, d4], &[g6, g4]), ip(&[s6, s4, vip], &[d6, d4], &[g6, g4])),
            ("4 a family is missing", ip(&[s4, vip], &[d4], &[g4]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
            ("4 twice", ip(&[s4, s6, vip, vip, s4], &[d4, d6, d6], &[g4, g6]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
            ("4 only VIPs", ip(&[vip], &[], &[]), ip(&[s4, s6, vip], &[d4, d6], &[g4, g6])),
            ("5 l19 a gateway twice", ip(&[s4, s6], &[d4, d6], &[g4, g4, g6]), fresh.clone()),
            ("5 l01 the gateways only", ip(&[s4, s6], &[d4, d6], &["172.16.9.1/24"]), fresh.clone()),
        ];
        for (rule, mut before, after) in table {
            endpoint(&mut before, &ours());
            assert_eq!(before, after, "{rule}");
        }
    }

    #[test]
    fn b16_policies_follow_the_gateway_of_their_family() {
        let hops = |context: &IpContext| -> Vec<String> {
            context.policies.iter().map(|policy| policy.routes[0].next_hop.clone()).collect()
        };
        let mut context = ip(&["172.16.9.6/24"], &["172.16.9.7/24"], &["172.16.9.1/24", "fd00:0:0:9::1/64"]);
        context.policies =
            vec![via("172.16.9.1", "0.0.0.0/0"), via("fd00:0:0:9::1", "::/0"), via("172.16.9.1", "")];
        endpoint(&mut context, &ours());
        assert_eq!(hops(&context), ["172.16.1.1", "fd00:0:0:1::1", "172.16.1.1"]);

        let mut context = ip(&["172.16.9.6/24"], &["172.16.9.7/24"], &["172.16.9.1/24"]);
        context.policies = vec![via("fd00:0:0:9::1", "::/0")];
        endpoint(&mut context, &Ours { gateways: dual("172.16.1.1/24", ""), ..ours() });
        assert_eq!(hops(&context), ["fd00:0:0:9::1"], "without a gateway of its family it stays");
    }

    #[test]
    fn g17_a_family_without_a_gateway_is_found() {
        assert_eq!(ours().without_gateway(), None);
        let only_v4 = Ours { gateways: dual("172.16.1.1/24", ""), ..ours() };
        assert_eq!(only_v4.without_gateway(), Some(Family::V6));
        let only_dst = Ours { src: Dual::NONE, gateways: Dual::NONE, ..ours() };
        assert_eq!(only_dst.without_gateway(), Some(Family::V4));
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
        fn g35_vips_are_kept_nothing_is_twice_nothing_is_of_an_old_subnet_and_twice_is_once(
            src in list(), dst in list(), old in prop::collection::vec(address(), 0..3)
        ) {
            let before = IpContext {
                src_ip_addrs: src.clone(), dst_ip_addrs: dst, extra_prefixes: old.clone(), ..IpContext::default()
            };
            let mut context = before.clone();
            endpoint(&mut context, &ours());

            let is_vip = |text: &&String| text.ends_with("/32") || text.ends_with("/128");
            let mut vips: Vec<_> = src.iter().filter(is_vip).collect();
            let mut seen = HashSet::new();
            vips.retain(|vip| seen.insert(*vip));
            prop_assert_eq!(context.src_ip_addrs.iter().filter(is_vip).collect::<Vec<_>>(), vips);

            let networks: HashSet<IpNet> = old.iter().map(|text| parse_prefix(text).unwrap().trunc()).collect();
            for (list, own) in [(&context.src_ip_addrs, texts(&ours().src)), (&context.dst_ip_addrs, texts(&ours().dst))] {
                prop_assert_eq!(list.iter().collect::<HashSet<_>>().len(), list.len(), "{:?}", list);
                prop_assert!(own.iter().all(|address| list.contains(address)), "{:?}", list);
                let stale = |text: &String| !own.contains(text) && networks.contains(&parse_prefix(text).unwrap().trunc());
                prop_assert!(!list.iter().any(stale), "{:?} of {:?}", list, old);
            }
            let gateways: HashSet<_> = context.extra_prefixes.iter().cloned().collect();
            prop_assert_eq!(gateways, texts(&ours().gateways).into_iter().collect::<HashSet<_>>());

            let once = context.clone();
            endpoint(&mut context, &ours());
            prop_assert_eq!(context, once);
        }
    }
}
