// SPDX-License-Identifier: Apache-2.0

//! Holds the kernel in memory to the real one: makes the same steps on both and compares them after
//! each.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    agreement::agrees,
    checked::Checked,
    netns::{in_netns, set_sysctl},
};
use crate::testing::witness;
use crate::{
    api::{Family, InterfaceName},
    kernel::{Action, Backend, Link, LinkKind, Mac, Memory, Netlink, Observed, Op, Ours, RouteTarget, Rule},
};

const LINKS: [&str; 3] = ["p1", "p2", "p3"];
const NETS: [&str; 5] = ["172.16.1.1/24", "172.16.1.200/24", "172.16.2.1/24", "fd00::1/64", "fd00::c8/64"];
/// The last two are a broadcast address and an address in no subnet.
const HOPS: [&str; 7] =
    ["172.16.1.2", "172.16.1.3", "172.16.2.2", "fd00::2", "fd00::3", "172.16.1.255", "10.9.9.9"];

/// One step: a change through the backend, or by another program.
#[derive(Clone, Debug)]
enum Step {
    Ours(Op),
    AddLink(InterfaceName),
    RemoveLink(InterfaceName),
    BridgeDown,
    BridgeSettings,
    DisableV6(bool),
}

fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}

fn step(random: &mut StdRng, now: &Observed) -> Step {
    let link: InterfaceName = pick(random, &LINKS).parse().unwrap();
    let index = now.link(&link).map_or(4711, |link| link.index);
    let net: IpNet = pick(random, &NETS).parse().unwrap();
    let family = *pick(random, &Family::BOTH);
    let metric = match (*pick(random, &[true, false]), family) {
        (true, _) => 4000,
        (false, Family::V4) => 0,
        (false, Family::V6) => 1024,
    };
    match random.random_range(0..18) {
        0 => Step::AddLink(link),
        1 => Step::RemoveLink(link),
        2 => Step::BridgeDown,
        3 => Step::Ours(Op::CreateBridge(Mac([2, 0, 0, 0, 0, 1]))),
        4 => Step::Ours(Op::RaiseBridge),
        5 if random.random_range(0..4) == 0 => Step::Ours(Op::DeleteBridge),
        5..=6 => Step::Ours(Op::AddAddress(net)),
        7 => Step::Ours(Op::DeleteAddress(net)),
        8..=9 => {
            let hops = HOPS.iter().map(|hop| hop.parse().unwrap()).filter(|hop| Family::of(*hop) == family);
            let some: BTreeSet<_> = hops.filter(|_| random.random_range(0..2) == 0).collect();
            match some.is_empty() {
                true => Step::Ours(Op::SetBlackhole(family)),
                false => Step::Ours(Op::SetNextHops(family, some)),
            }
        }
        10 => Step::Ours(Op::SetBlackhole(family)),
        11 => Step::Ours(Op::DeleteRoute(family, metric)),
        12..=13 => Step::Ours(Op::AddRule(rule(random, family))),
        14 => Step::Ours(Op::DeleteRule(rule(random, family))),
        15 if random.random_range(0..2) == 0 => Step::BridgeSettings,
        15 => Step::Ours(Op::ConfigureBridge),
        16 => Step::DisableV6(random.random_range(0..3) == 0),
        _ if random.random_range(0..2) == 0 => Step::Ours(Op::Attach(link, index)),
        _ => Step::Ours(Op::Detach(link, index)),
    }
}

fn rule(random: &mut StdRng, family: Family) -> Rule {
    let source = match family {
        Family::V4 => ["20.0.0.1/32", "20.0.0.0/24"],
        Family::V6 => ["2000::1/128", "2000::/64"],
    };
    let ours = Ours::default();
    let kind = random.random_range(0..4);
    Rule {
        priority: if kind == 3 { 32_765 } else { random.random_range(30_000..30_002) },
        family,
        source: (kind < 3).then(|| pick(random, &source).parse().unwrap()),
        input: Some(ours.bridge.clone()),
        action: match kind {
            0 | 1 => Action::Lookup(ours.table),
            2 => Action::Goto(random.random_range(70_000..70_002)),
            _ => Action::Blackhole,
        },
        protocol: ours.protocol,
    }
}

/// The observed state with names in place of the links' indices, which differ between the two
/// kernels.
fn named(observed: &Observed) -> BTreeMap<&'static str, Vec<String>> {
    let by_index = |index: u32| {
        let named = observed.links.iter().find(|(_, link)| link.index == index);
        named.map_or_else(|| index.to_string(), |(name, _)| name.to_string())
    };
    let ours: Vec<(&InterfaceName, &Link)> = observed
        .links
        .iter()
        .filter(|(_, link)| link.kind != LinkKind::Primary)
        .filter(|(name, _)| !name.as_str().ends_with("far"))
        .collect();
    let links = ours.iter().map(|(name, link)| {
        format!(
            "{name} in {:?} {:?} bridge up {}",
            link.controller.map(by_index),
            link.kind,
            link.up || link.kind != LinkKind::Bridge
        )
    });
    let routes = observed.routes.iter().map(|route| {
        let target = match &route.target {
            RouteTarget::Hops(hops) => {
                hops.iter().map(|hop| format!("{} {}", hop.via, by_index(hop.device))).collect()
            }
            other => vec![format!("{other:?}")],
        };
        format!("{} {} {} {target:?}", route.family, route.metric, route.protocol)
    });
    let mut out = BTreeMap::from([
        ("links", links.collect::<Vec<_>>()),
        ("bridge", vec![format!("{:?}", observed.bridge_settings)]),
        ("addresses", observed.addresses.iter().map(ToString::to_string).collect()),
        ("routes", routes.collect()),
        (
            "rules",
            observed
                .rules
                .iter()
                .filter(|rule| !matches!(rule.priority, 0 | 32_766 | 32_767))
                .map(ToString::to_string)
                .collect(),
        ),
    ]);
    out.values_mut().for_each(|list| list.sort());
    out
}

async fn others(linux: &Memory, step: &Step) {
    match step {
        Step::Ours(_) => {}
        Step::AddLink(name) => {
            if linux.observed(&Ours::default()).link(name).is_none() {
                witness::add_veth(name.as_str(), &format!("{name}far"));
                witness::change_link(name.as_str(), |link| link.up());
            }
            linux.add_link(name.as_str(), None);
        }
        Step::RemoveLink(name) => {
            if linux.observed(&Ours::default()).link(name).is_some() {
                witness::delete_link(name.as_str());
            }
            linux.remove_link(name.as_str());
        }
        Step::BridgeDown => {
            let bridge = Ours::default().bridge;
            if linux.observed(&Ours::default()).link(&bridge).is_some() {
                witness::change_link(bridge.as_str(), |link| link.down());
            }
            linux.change(|world| world.set_down(&bridge));
        }
        Step::BridgeSettings => {
            if linux.observed(&Ours::default()).bridge(&Ours::default()).is_some() {
                witness::snoop("bridge0");
                linux.change(|world| {
                    world.bridge_settings.multicast_snooping = true;
                    world.bridge_settings.spanning_tree = true;
                });
            }
        }
        Step::DisableV6(disabled) => {
            let value = if *disabled { "1" } else { "0" };
            set_sysctl("net.ipv6.conf.all.disable_ipv6", value);
            linux.change(|world| world.disable_v6(*disabled));
        }
    }
}

#[test]
fn a_hundred_random_steps_lead_both_kernels_to_the_same_state() {
    for seed in 0..3 {
        in_netns(move || async move {
            let ours = Ours::default();
            let mut random = StdRng::seed_from_u64(seed);
            let memory = Memory::default();
            let mut twin = memory.clone();
            let mut real = Checked::open().unwrap();
            let mut reals_view = real.dump(&ours).await.unwrap();
            let mut taken = Vec::new();
            for _ in 0..100 {
                let twins_view = twin.dump(&ours).await.unwrap();
                let step = step(&mut random, &twins_view);
                taken.push(match &step {
                    Step::Ours(op) => op.to_string(),
                    other => format!("{other:?}"),
                });
                others(&memory, &step).await;
                if let Step::Ours(op) = &step {
                    reals_view = real.refresh(&ours, reals_view).await.unwrap();
                    let there = with_index(op, &reals_view);
                    let answers = (twin.apply(&ours, op).await, real.apply(&ours, &there).await);
                    assert_eq!(
                        answers.0.is_ok(),
                        answers.1.is_ok(),
                        "seed {seed}: {op}: {answers:?}\n{taken:#?}"
                    );
                }
                let twins_view = twin.dump(&ours).await.unwrap();
                reals_view = real.refresh(&ours, reals_view).await.unwrap();
                assert_eq!(named(&twins_view), named(&reals_view), "seed {seed}: {step:?}\n{taken:#?}");
                agrees(&reals_view);
            }
        });
    }
}

#[test]
fn both_kernels_refuse_the_port_that_a_bridge_has_no_room_for() {
    in_netns(|| async {
        const PAIRS: usize = 512; // both ends are ports: one more than there is room for
        let ours = Ours::default();
        let memory = Memory::default();
        let mut twin = memory.clone();
        let mut real = Netlink::open().unwrap();
        let create = Op::CreateBridge(Mac([2, 0, 0, 0, 0, 1]));
        twin.apply(&ours, &create).await.unwrap();
        real.apply(&ours, &create).await.unwrap();
        let mut ports = Vec::new();
        for pair in 0..PAIRS {
            let [one, other] = [format!("a{pair}"), format!("b{pair}")];
            witness::add_veth(&one, &other);
            for name in [one, other] {
                ports.push(Op::Attach(name.parse().unwrap(), memory.add_link(&name, None)));
            }
        }
        let reals_view = real.dump(&ours).await.unwrap();
        let mut refused = Vec::new();
        for (number, attach) in ports.iter().enumerate() {
            let there = with_index(attach, &reals_view);
            let answers = (twin.apply(&ours, attach).await, real.apply(&ours, &there).await);
            let errors = (answers.0.map_err(|it| it.errno), answers.1.map_err(|it| it.errno));
            assert_eq!(errors.0, errors.1, "port {number}");
            refused.extend(errors.0.err().map(|errno| (number, errno)));
        }
        assert_eq!(refused, [(1023, 54)], "EXFULL");
    });
}

/// The change with the real kernel's index of its link.
fn with_index(op: &Op, observed: &Observed) -> Op {
    let index = |name: &InterfaceName| observed.link(name).map_or(4711, |link| link.index);
    match op {
        Op::Attach(name, _) => Op::Attach(name.clone(), index(name)),
        Op::Detach(name, _) => Op::Detach(name.clone(), index(name)),
        op => op.clone(),
    }
}
