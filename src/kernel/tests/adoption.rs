// SPDX-License-Identifier: Apache-2.0

//! What an earlier process left: made as the Go proxy makes it, or left by this program when it was killed.

use std::time::Duration;

use rtnetlink::packet_route::address::AddressScope;

use super::{
    linux::{blackhole, working_route},
    netns::{eventually, in_netns, name, routed, settings, start_with, status},
    witness::{
        Action, Rule, add_address, add_bridge, add_route, add_rule, add_veth, addresses, change_link, link,
        routes, rules, snapshot,
    },
};
use crate::{
    api::{Dual, Family},
    chain::Tasks,
    kernel::{Degraded, Kernel, Settings},
};

/// The Go proxy with one load balancer and one target: its bridge with an address, ports that have addresses of their own, a
/// multipath route without devices in table 1, untagged rules without priorities.
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
fn b21_b22_state_of_the_go_proxy_carries_traffic_until_its_place_is_taken() {
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

        let _port = kernel.port(name("lb-new"), "lb-1");
        let _hop = kernel.next_hop("172.16.1.2".parse().unwrap(), "lb-1");
        kernel.settled().await;
        let both = working_route(&["172.16.1.2", "172.16.1.4"]);
        assert_eq!(routes(Family::V4, 1)[0], both, "adopted until the mesh has tried every load balancer");
        kernel.mesh_settled();
        kernel.settled().await;
        assert_eq!(routes(Family::V4, 1), [working_route(&["172.16.1.2"]), blackhole(Family::V4)]);
        let state = kernel.status().borrow().clone();
        assert_eq!(state.orphans, [name("lb-go")].into());
        assert_eq!(link("lb-go").controller, None, "taken out, not deleted");
        assert_eq!(link("target-go").controller.as_deref(), Some("bridge0"), "its target may come back");
        let stop = |rule: &Rule| rule.iif.as_deref() == Some("lb-go") && rule.action == Action::Blackhole;
        assert!(rules().iter().any(stop), "{:?}", rules());
        tasks.stop().await;
    });
}

#[test]
fn what_nobody_claims_is_released_when_the_time_is_up() {
    in_netns(|| async {
        left_by_go();
        let tasks = Tasks::default();
        let kernel =
            start_with(Settings { adoption: Duration::from_millis(300), ..settings() }, &tasks).await;
        kernel.set_gateways(Dual { v4: "172.16.1.9/24".parse().ok(), v6: None });
        kernel.set_vips(&["20.0.0.1/32".parse().unwrap()]);
        let state = status(&kernel, |status| status.passes > 0 && status.degraded.is_empty()).await;
        assert_eq!(state.orphans, ["lb-go", "target-go"].map(name).into());
        let left = addresses("bridge0").into_iter().filter(|address| address.scope == AddressScope::Universe);
        let left: Vec<_> = left.map(|address| address.net.to_string()).collect();
        assert_eq!(left, ["172.16.1.9/24"]);
        assert_eq!(
            Family::BOTH.map(|family| routes(family, 1)),
            Family::BOTH.map(|family| vec![blackhole(family)])
        );
        tasks.stop().await;
    });
}

#[test]
fn g08_a_killed_process_leaves_a_state_that_its_successor_does_not_change() {
    in_netns(|| async {
        for link in ["lb-1", "target-1"] {
            add_veth(link, &format!("{link}p"));
            change_link(link, |link| link.up());
        }
        let declare = |kernel: &Kernel| {
            kernel.set_gateways(gateways());
            kernel.set_vips(
                &(0..40).map(|i| format!("20.0.0.{}/32", i * 5).parse().unwrap()).collect::<Vec<_>>(),
            );
            let ports = ["lb-1", "target-1"].map(|port| kernel.port(name(port), "x"));
            (ports, ["172.16.1.2", "fd00::2"].map(|hop| kernel.next_hop(hop.parse().unwrap(), "x")))
        };
        let killed = Tasks::default();
        let kernel = start_with(settings(), &killed).await;
        let guards = declare(&kernel);
        kernel.settled().await;
        killed.stop().await;
        drop(guards);
        let before = snapshot();
        let tasks = Tasks::default();
        let kernel = start_with(settings(), &tasks).await;
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().writes, 0, "looking changes nothing");
        let _guards = declare(&kernel);
        kernel.mesh_settled();
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().writes, 0, "{:?}", kernel.status().borrow());
        assert_eq!(snapshot(), before);
        tasks.stop().await;
    });
}

#[test]
fn an_empty_first_list_does_not_take_away_the_rules_of_an_earlier_process() {
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
