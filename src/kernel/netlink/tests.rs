// SPDX-License-Identifier: Apache-2.0

//! Tests dumps of a kernel that changes during the dump, and of a kernel that neither filters nor
//! explains.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage::GetRule, rule::RuleMessage};
use tokio::time::sleep;

use super::*;
use crate::{
    kernel::{
        Mac, Rule,
        rule::{Action, priority},
        tests::{agreement::agrees, netns::in_netns},
    },
    testing::witness::{self, MAIN, add_address, add_route, add_rule, add_veth, change_link, delete_rule},
};

const EINVAL: i32 = 22;

/// The bridge, and other objects that a dump must leave out: default routes of other tables,
/// addresses of other links, rules.
async fn crowd(real: &mut Netlink) {
    let ours = Ours::default();
    real.apply(&ours, &Op::CreateBridge(Mac([2, 0, 0, 0, 0, 1]))).await.unwrap();
    for net in ["172.16.1.1/24", "fd00::1/64"] {
        real.apply(&ours, &Op::AddAddress(net.parse().unwrap())).await.unwrap();
    }
    for (family, hop) in [(Family::V4, "172.16.1.2"), (Family::V6, "fd00::2")] {
        real.apply(&ours, &Op::SetNextHops(family, [hop.parse().unwrap()].into())).await.unwrap();
        real.apply(&ours, &Op::SetBlackhole(family)).await.unwrap();
        let stop = Rule::leak_stop(&ours, family, &ours.bridge);
        real.apply(&ours, &Op::AddRule(stop)).await.unwrap();
    }
    add_veth("eth0", "far");
    for link in ["eth0", "far"] {
        change_link(link, |link| link.up());
    }
    for net in ["192.0.2.2/24", "2001:db8:9::2/64"] {
        add_address("eth0", net);
    }
    for table in [MAIN, 7] {
        add_route(table, &[("192.0.2.1", None)]);
        add_route(table, &[("2001:db8:9::1", None)]);
    }
    settled([("bridge0", false), ("eth0", true), ("far", true)]).await;
}

/// Waits until Linux reports which links carry frames, a moment after they are up: the ends of a
/// pair do, a bridge without ports does not.
async fn settled(links: [(&str, bool); 3]) {
    let mut kernel = Netlink::open().unwrap();
    loop {
        let seen = kernel.dump(&Ours::default()).await.unwrap();
        let is_settled = links.iter().all(|(name, running)| {
            seen.link(&name.parse().unwrap()).is_some_and(|link| link.running == *running)
        });
        if is_settled {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_kernel_without_strict_checks_shows_the_same() {
    in_netns(|| async {
        let ours = Ours::default();
        let mut strict = Netlink::open().unwrap();
        let mut old = Netlink::with(Checks::None).unwrap();
        crowd(&mut old).await;
        let seen = old.dump(&ours).await.unwrap();
        assert_eq!(seen, strict.dump(&ours).await.unwrap());
        agrees(&seen);
        assert_eq!((seen.addresses.len(), seen.routes.len()), (2, 4), "{seen:?}");

        let off_link = Op::SetNextHops(Family::V4, ["203.0.113.1".parse().unwrap()].into());
        let refusals = [old.apply(&ours, &off_link).await, strict.apply(&ours, &off_link).await];
        let [bare, explained] = refusals.map(Result::unwrap_err);
        assert_eq!((bare.errno, bare.text), (errno::ENETUNREACH, None));
        assert_eq!((explained.errno, explained.text.is_some()), (errno::ENETUNREACH, true));
    });
}

#[test]
fn the_error_that_ends_a_dump_is_a_refusal() {
    in_netns(|| async {
        let real = Netlink::open().unwrap();
        let refusal = real.requests.dump(message::get_addresses(4711)).await.unwrap_err();
        assert_eq!(refusal.errno, errno::ENODEV, "{refusal}");
        let mut unknown = RuleMessage::default();
        unknown.header.family = AddressFamily::from(12);
        let refusal = real.requests.dump(GetRule(unknown)).await.unwrap_err();
        assert!([errno::EAFNOSUPPORT, EINVAL].contains(&refusal.errno), "{refusal}");
    });
}

#[test]
fn a_dump_that_changes_interrupt_shows_each_rule_once_or_fails() {
    in_netns(|| async {
        const RULES: u32 = 1000;
        let ours = Ours::default();
        let mut real = Netlink::open().unwrap();
        for number in 0..RULES {
            let rule = Rule {
                priority: 1000 + number,
                action: Action::Lookup(7),
                ..Rule::leak_stop(&ours, Family::V4, &ours.bridge)
            };
            real.apply(&ours, &Op::AddRule(rule)).await.unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let hammer = thread::spawn(move || {
            let front = witness::Rule::lookup(10, "20.0.0.1/32", 7);
            while !stopped.load(Relaxed) {
                add_rule(&front);
                delete_rule(&front);
            }
        });
        let mut failed = 0;
        for _ in 0..20 {
            match real.dump(&ours).await {
                Ok(seen) => {
                    let mut rules: Vec<_> = seen
                        .rules
                        .iter()
                        .filter(|rule| (1000..priority::FLAT).contains(&rule.priority))
                        .collect();
                    assert_eq!(rules.len(), RULES as usize);
                    rules.dedup();
                    assert_eq!(rules.len(), RULES as usize);
                }
                Err(refusal) => {
                    assert_eq!(refusal.errno, errno::EINTR, "{refusal}");
                    failed += 1;
                }
            }
        }
        stop.store(true, Relaxed);
        hammer.join().unwrap();
        assert!(failed > 0, "no dump was interrupted: the test shows nothing");
    });
}
