// SPDX-License-Identifier: Apache-2.0

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::{
    api::InterfaceName,
    kernel::{Desired, Mac, Observed, Op, plan, world::World},
};

/// The result of walking the rules for a packet, as the kernel does.
#[derive(Debug, PartialEq)]
enum Fate {
    Routed(usize),
    Dropped(usize),
    PrimaryNetwork,
}

/// Assumes that table main has a route to every address; its rule is at 32766. The rules are
/// sorted.
fn walk(rules: &[Rule], source: IpAddr, input: &InterfaceName) -> Fate {
    let mut seen = 0;
    let mut at = 0;
    let beyond = rules.first().is_some_and(|rule| rule.priority > 32_766);
    while let Some(rule) = rules.get(at).filter(|rule| rule.priority <= 32_766 || beyond) {
        at += 1;
        let family = rule.family == Family::of(source);
        seen += usize::from(family);
        let matches = rule.source.is_none_or(|net| net.contains(&source))
            && rule.input.as_ref().is_none_or(|i| i == input);
        match rule.action {
            _ if !(family && matches) => {}
            Action::Lookup(_) => return Fate::Routed(seen),
            Action::Blackhole => return Fate::Dropped(seen),
            Action::Goto(target) => {
                let first = rules.partition_point(|rule| rule.priority < target);
                if rules[first..]
                    .iter()
                    .take_while(|rule| rule.priority == target)
                    .any(|r| r.family == rule.family)
                {
                    return on(walk(&rules[first..], source, input), seen);
                }
            }
        }
    }
    Fate::PrimaryNetwork
}

fn on(fate: Fate, seen: usize) -> Fate {
    match fate {
        Fate::Routed(more) => Fate::Routed(seen + more),
        Fate::Dropped(more) => Fate::Dropped(seen + more),
        Fate::PrimaryNetwork => Fate::PrimaryNetwork,
    }
}

fn bridge() -> InterfaceName {
    Ours::default().bridge
}

fn with_leak_stops(vips: &[IpNet]) -> World {
    let ours = Ours::default();
    let mut desired = Desired::nothing(ours.clone(), Mac::derive(&[]));
    desired.vip_rules = Some(std::sync::Arc::new(vip_rules(&ours, vips)));
    let mut world = World::default();
    for op in plan(&Observed::default(), &desired) {
        world.apply(&ours, &op).unwrap();
    }
    assert_eq!(plan(&world.observed(&ours), &desired), []);
    world
}

fn host(family: Family, at: u32) -> IpNet {
    match family {
        Family::V4 => IpNet::new(Ipv4Addr::from(0x1400_0000 | at).into(), 32).unwrap(),
        Family::V6 => IpNet::new(Ipv6Addr::from(0x2000 << 112 | u128::from(at) << 7).into(), 128).unwrap(),
    }
}

/// Addresses spread over 24 bits without a pattern.
fn spread(family: Family, count: u32) -> Vec<IpNet> {
    (0..count).map(|i| host(family, i.wrapping_mul(2_654_435_761) >> 8)).collect()
}

#[test]
fn a_few_vips_are_a_rule_each() {
    let vips = ["20.0.0.1/32", "20.0.0.9/32", "2000::1/128"].map(|vip| vip.parse().unwrap());
    let rules: Vec<_> = vip_rules(&Ours::default(), &vips).iter().map(ToString::to_string).collect();
    let expected = [
        "30000: from 20.0.0.1/32 iif bridge0 lookup 1",
        "30000: from 20.0.0.9/32 iif bridge0 lookup 1",
        "30000: from 2000::1/128 iif bridge0 lookup 1",
    ];
    assert_eq!(rules, expected);
}

#[test]
fn ten_thousand_vips_take_a_walk_of_some_thirty_rules() {
    for family in Family::BOTH {
        let vips = spread(family, 10_000);
        let rules: Vec<Rule> = vip_rules(&Ours::default(), &vips).into_iter().collect();
        let mut longest = 0;
        for vip in &vips {
            match walk(&rules, vip.addr(), &bridge()) {
                Fate::Routed(seen) => longest = longest.max(seen),
                fate => panic!("{vip}: {fate:?}"),
            }
        }
        assert!(longest <= 48, "{longest} {family} rules");
    }
}

#[test]
fn one_vip_more_changes_few_of_thousands_of_rules() {
    for family in Family::BOTH {
        let mut vips = spread(family, 5_000);
        let before = vip_rules(&Ours::default(), &vips);
        for at in [3, 77, 0x00ab_cdef, 0x00ff_ffff] {
            vips.push(host(family, at));
            let after = vip_rules(&Ours::default(), &vips);
            let changed = before.symmetric_difference(&after).count();
            assert!((1..=2 * LEAF + 4).contains(&changed), "{changed} rules change for {}", host(family, at));
            vips.pop();
        }
    }
}

#[test]
fn a_goto_leads_forwards_to_a_block_that_exists() {
    for family in Family::BOTH {
        let rules = vip_rules(&Ours::default(), &spread(family, 1_000));
        let gotos = rules.iter().filter_map(|rule| match rule.action {
            Action::Goto(target) => Some((rule, target)),
            _ => None,
        });
        let mut count = 0;
        for (rule, target) in gotos {
            count += 1;
            assert!(target > rule.priority, "{rule}");
            assert!(rules.iter().any(|rule| rule.priority == target), "{rule}");
        }
        assert!(count > 50, "{count}");
    }
}

/// Small sets of prefixes that are near each other, so that parts merge, split and contain one
/// another.
fn prefixes() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (0u32..1 << 10, 22u8..=32).prop_map(|(at, len)| {
        let address = Ipv4Addr::from(0x1400_0000 | at << 3);
        IpNet::new(address.into(), len).unwrap()
    });
    let host = (0u32..1 << 10).prop_map(|at| host(Family::V4, at << 6));
    let v6 = (0u32..1 << 10).prop_map(host_v6);
    proptest::collection::vec(prop_oneof![1 => v4, 6 => host, 6 => v6], 0..60)
}

fn host_v6(at: u32) -> IpNet {
    host(Family::V6, at << 9)
}

fn probes(vips: &[IpNet]) -> Vec<IpAddr> {
    let near = (0..1u32 << 10).step_by(31);
    let v4 = near.clone().map(|at| host(Family::V4, at << 3).addr());
    let v6 = near.map(|at| host_v6(at).addr());
    vips.iter().map(|vip| vip.addr()).chain(v4).chain(v6).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exactly_the_vips_are_routed_and_all_else_is_dropped(vips in prefixes()) {
        let world = with_leak_stops(&vips);
        for source in probes(&vips) {
            let vip = vips.iter().any(|vip| vip.contains(&source));
            let fate = walk(&world.rules, source, &bridge());
            prop_assert!(matches!((&fate, vip), (Fate::Routed(_), true) | (Fate::Dropped(_), false)), "{} {:?}", source, fate);
        }
    }

    #[test]
    fn a_change_of_the_vips_affects_no_other_source(from in prefixes(), to in prefixes()) {
        let ours = Ours::default();
        let mut world = with_leak_stops(&from);
        let mut desired = Desired::nothing(ours.clone(), Mac::derive(&[]));
        desired.vip_rules = Some(std::sync::Arc::new(vip_rules(&ours, &to)));
        let mut sources = probes(&from);
        sources.extend(to.iter().map(|vip| vip.addr()));
        for op in plan(&world.observed(&ours), &desired) {
            world.apply(&ours, &op).unwrap();
            for source in &sources {
                let (before, after) = [&from, &to].map(|vips| vips.iter().any(|vip| vip.contains(source))).into();
                let fate = walk(&world.rules, *source, &bridge());
                let fits = match fate {
                    Fate::Routed(_) => before || after,
                    Fate::Dropped(_) => !(before && after),
                    Fate::PrimaryNetwork => false,
                };
                prop_assert!(fits, "{} {:?} after {}", source, fate, op);
            }
        }
        prop_assert_eq!(plan(&world.observed(&ours), &desired), Vec::<Op>::new());
    }
}
