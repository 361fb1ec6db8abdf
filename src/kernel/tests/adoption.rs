// SPDX-License-Identifier: Apache-2.0

//! Tests the adoption of objects that the Go proxy has made, or that a killed process of this
//! program has left.

use std::time::Duration;

use rtnetlink::packet_route::address::AddressScope;

use super::{
    balancer,
    linux::{blackhole, working_route},
    netns::{eventually, in_netns, name, routed, settings, start_with, status},
};
use crate::testing::witness::{
    Action, Rule, add_address, add_bridge, add_route, add_rule, add_veth, addresses, change_link,
    delete_link, link, replace_route, routes, rules, snapshot,
};
use crate::{
    api::{Dual, Family},
    kernel::{Degraded, Ends, Kernel, PeerId, Settings},
    task::Tasks,
};

/// The objects of a Go proxy with one load balancer and one target: its bridge with an address,
/// ports that have addresses of their own, a multipath route without devices in table 1, untagged
/// rules without priorities.
fn left_by_go() {
    add_bridge("bridge0", MAC_OF_GO);
    add_address("bridge0", "172.16.1.1/24");
    add_address("bridge0", "fd00::1/64");
    change_link("bridge0", |link| link.up());
    let bridge = link("bridge0").index;
    for (port, alias) in [("lb-go", "server-px-lb-1"), ("target-go", "client-target-1-proxy-0")] {
        let peer = format!("{port}p");
        add_veth(port, &peer);
        change_link(port, |link| link.alias(alias).controller(bridge).up());
        change_link(&peer, |link| link.up());
    }
    add_route(1, &[("172.16.1.2", None), ("172.16.1.4", None)]);
    add_route(1, &[("fd00::2", Some("bridge0")), ("fd00::4", Some("bridge0"))]);
    for vip in ["20.0.0.1/32", "20.0.0.2/32", "2000::1/128"] {
        add_rule(&Rule::lookup(0, vip, 1));
    }
}

const MAC_OF_GO: [u8; 6] = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];

fn gateways() -> Dual<ipnet::IpNet> {
    Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() }
}

/// Packets from the first VIP reach the load balancers that the Go proxy knew.
fn first_vip_is_routed() {
    routed("20.0.0.1", "bridge0", &["172.16.1.2", "172.16.1.4"]);
}

fn patient() -> Settings {
    Settings { adoption: Duration::from_secs(600), ..settings() }
}

#[test]
fn b21_b22_state_of_the_go_proxy_works_until_it_has_a_successor() {
    in_netns(|| async {
        left_by_go();
        let tasks = Tasks::default();
        let kernel = start_with(patient(), &tasks).await;
        kernel.set_gateways(gateways());
        kernel.settled().await;
        let first = kernel.status().borrow().clone();
        assert!(first.leak_stop && first.degraded == [Degraded::Adopted], "{first:?}");
        assert_eq!(link("bridge0").mac, MAC_OF_GO, "an adopted bridge keeps its address");
        let of_go = Rule::lookup(32_765, "20.0.0.1/32", 1);
        assert!(rules().contains(&of_go), "not touched before the VIPs are known: {:?}", rules());
        first_vip_is_routed();
        assert_eq!(first.next_hops.get(Family::V4).map(std::collections::BTreeSet::len), Some(2));

        kernel.set_vips(&["20.0.0.1/32".parse().unwrap(), "2000::1/128".parse().unwrap()]);
        kernel.settled().await;
        let now = rules();
        let lookups: Vec<_> = now.iter().filter(|rule| rule.action == Action::Lookup(1)).collect();
        let ours = ["20.0.0.1/32", "2000::1/128"]
            .map(|vip| Rule::lookup(30_000, vip, 1).iif("bridge0").protocol(200));
        assert!(lookups.into_iter().eq(&ours), "{now:?}");
        first_vip_is_routed();

        let peer = PeerId::load_balancer("px-lb-1");
        let _port = kernel.port(&peer, name("lb-new"), Ends::default());
        let _hops = ["172.16.1.2", "fd00::2"].map(|hop| kernel.next_hop(&peer, hop.parse().unwrap()));
        kernel.settled().await;
        let both = working_route(&["172.16.1.2", "172.16.1.4"]);
        assert_eq!(routes(Family::V4, 1)[0], both, "the new link is not there yet, the old one carries");
        balancer::make_link("lb-new");
        eventually(|| link("lb-go"), |link| link.controller.is_none()).await;
        assert!(
            rules()
                .iter()
                .any(|rule| rule.iif.as_deref() == Some("lb-go") && rule.action == Action::Blackhole),
            "taken out, not deleted: {:?}",
            rules()
        );
        assert_eq!(routes(Family::V4, 1)[0], both, "the other load balancer may be connected yet");
        kernel.ready();
        kernel.set_registered(["px-lb-1".to_owned()].into());
        kernel.settled().await;
        assert_eq!(routes(Family::V4, 1), [working_route(&["172.16.1.2"]), blackhole(Family::V4)]);
        assert_eq!(link("target-go").controller.as_deref(), Some("bridge0"), "its target may come back");
        tasks.stop().await;
    });
}

#[test]
fn what_no_connection_claims_stays_and_is_named() {
    in_netns(|| async {
        left_by_go();
        let tasks = Tasks::default();
        let kernel =
            start_with(Settings { adoption: Duration::from_millis(300), ..settings() }, &tasks).await;
        kernel.set_gateways(Dual { v4: "172.16.9.1/24".parse().ok(), v6: None });
        kernel.set_vips(&["20.0.0.1/32".parse().unwrap()]);
        kernel.ready();
        let state = status(&kernel, |status| !status.orphans.is_empty()).await;
        assert_eq!((state.orphans, state.degraded), (["lb-go", "target-go"].map(name).into(), vec![]));
        let left = || addresses("bridge0").into_iter().filter(|it| it.scope == AddressScope::Universe);
        let left = || left().map(|address| address.net.to_string()).collect::<Vec<_>>();
        assert_eq!(left(), ["172.16.1.1/24", "172.16.9.1/24", "fd00::1/64"], "they may lie in these");
        assert_eq!(routes(Family::V4, 1)[0], working_route(&["172.16.1.2", "172.16.1.4"]));
        ["lb-go", "target-go"].iter().for_each(|link| delete_link(link));
        let _new = balancer::in_netns(&kernel, "lb-1", &["172.16.9.8"]);
        kernel.set_registered(["lb-1".to_owned()].into());
        eventually(left, |left| left == &["172.16.9.1/24"]).await;
        let wanted = [working_route(&["172.16.9.8"]), blackhole(Family::V4)];
        eventually(|| routes(Family::V4, 1), |routes| routes == &wanted).await;
        assert_eq!(routes(Family::V6, 1), [blackhole(Family::V6)]);
        tasks.stop().await;
    });
}

#[test]
fn g08_a_successor_keeps_the_state_of_a_killed_process() {
    in_netns(|| async {
        ["lb-1", "target-1"].iter().for_each(|link| balancer::make_link(link));
        let declare = |kernel: &Kernel| {
            kernel.set_gateways(gateways());
            kernel.set_vips(
                &(0..40).map(|i| format!("20.0.0.{}/32", i * 5).parse().unwrap()).collect::<Vec<_>>(),
            );
            let target = kernel.port(&PeerId::target("target-1"), name("target-1"), Ends::default());
            (balancer::declare(kernel, "lb-1", &["172.16.1.2", "fd00::2"]), target)
        };
        let killed = Tasks::default();
        let kernel = start_with(settings(), &killed).await;
        let guards = declare(&kernel);
        kernel.settled().await;
        status(&kernel, |status| status.has_next_hop("172.16.1.2".parse().unwrap())).await;
        killed.stop().await;
        drop(guards);
        let before = snapshot();
        let tasks = Tasks::default();
        let kernel = start_with(settings(), &tasks).await;
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().writes, 0, "looking changes nothing");
        let _guards = declare(&kernel);
        kernel.ready();
        kernel.set_registered(["lb-1".to_owned()].into());
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().writes, 0, "{:?}", kernel.status().borrow());
        assert_eq!(snapshot(), before);
        tasks.stop().await;
    });
}

#[test]
fn an_empty_first_list_keeps_the_rules_of_an_earlier_process() {
    in_netns(|| async {
        left_by_go();
        let tasks = Tasks::default();
        let kernel =
            start_with(Settings { empty_vips_grace: Duration::from_secs(1), ..patient() }, &tasks).await;
        kernel.set_gateways(gateways());
        kernel.settled().await;
        kernel.set_vips(&[]);
        kernel.settled().await;
        assert!(kernel.status().borrow().degraded.contains(&Degraded::VipsHeld));
        first_vip_is_routed();
        eventually(rules, |rules| rules.iter().all(|rule| rule.action != Action::Lookup(1))).await;
        tasks.stop().await;
    });
}

#[test]
fn restored_vips_are_added_to_those_of_an_earlier_process() {
    in_netns(|| async {
        left_by_go();
        let tasks = Tasks::default();
        let restored_vips = ["20.0.0.1/32", "20.0.0.9/32"].map(|vip| vip.parse().unwrap()).into();
        let kernel = start_with(Settings { restored_vips, ..patient() }, &tasks).await;
        kernel.set_gateways(gateways());
        kernel.settled().await;
        let sources = || {
            let rules = rules().into_iter().filter(|rule| rule.action == Action::Lookup(1));
            rules.map(|rule| rule.from.map(|net| net.to_string()).unwrap_or_default()).collect::<Vec<_>>()
        };
        let mut now = sources();
        now.sort();
        assert_eq!(now, ["20.0.0.1/32", "20.0.0.2/32", "20.0.0.9/32", "2000::1/128"]);
        first_vip_is_routed();
        routed("20.0.0.9", "bridge0", &["172.16.1.2", "172.16.1.4"]);
        kernel.set_vips(&["20.0.0.9/32".parse().unwrap()]);
        kernel.settled().await;
        assert_eq!(sources(), ["20.0.0.9/32"]);
        tasks.stop().await;
    });
}

#[test]
fn the_go_proxy_takes_over_what_a_killed_process_left() {
    in_netns(|| async {
        let killed = Tasks::default();
        let kernel = start_with(settings(), &killed).await;
        kernel.set_gateways(gateways());
        kernel.set_vips(&(1..41).map(|n| format!("20.0.0.{n}/32").parse().unwrap()).collect::<Vec<_>>());
        let lb = balancer::in_netns(&kernel, "lb-1", &["172.16.1.2"]);
        kernel.settled().await;
        routed("20.0.0.1", "bridge0", &["172.16.1.2"]);
        killed.stop().await;
        drop(lb);
        // The Go proxy uses the existing bridge, adds its rules, and replaces the route.
        add_rule(&Rule::lookup(0, "20.0.0.1/32", 1));
        add_rule(&Rule::lookup(0, "20.0.0.77/32", 1));
        replace_route(1, &[("172.16.1.4", None), ("172.16.1.6", None)]);
        for vip in ["20.0.0.1", "20.0.0.40", "20.0.0.77"] {
            routed(vip, "bridge0", &["172.16.1.4", "172.16.1.6"]);
        }
        assert_eq!(routes(Family::V4, 1).len(), 2, "one route, and the blackhole behind it");
    });
}
