// SPDX-License-Identifier: Apache-2.0

//! What an earlier process left: made with `ip` as the Go proxy makes it, or left by this program when it was killed.

use std::time::Duration;

use super::netns::{eventually, in_netns, ip, name, settings, start_with, status};
use crate::{
    api::{Dual, Family},
    chain::Tasks,
    kernel::{Degraded, Kernel, Settings},
};

/// The Go proxy with one load balancer and one target: its bridge with an address, ports that have addresses of their own, a
/// multipath route without devices in table 1, untagged rules without priorities.
fn left_by_go() {
    ip("link add bridge0 address 02:aa:bb:cc:dd:ee type bridge");
    ip("addr add 172.16.1.1/24 dev bridge0");
    ip("-6 addr add fd00::1/64 dev bridge0 nodad");
    ip("link set bridge0 up");
    for (port, alias) in [("lb-go", "server-px-lb-1"), ("target-go", "client-target-1-proxy-0")] {
        ip(&format!("link add {port} type veth peer name {port}p"));
        ip(&format!("link set {port} alias {alias} master bridge0 up"));
        ip(&format!("link set {port}p up"));
    }
    ip("route add table 1 default nexthop via 172.16.1.2 nexthop via 172.16.1.4");
    ip("-6 route add table 1 default nexthop via fd00::2 dev bridge0 nexthop via fd00::4 dev bridge0");
    ip("rule add from 20.0.0.1 lookup 1");
    ip("rule add from 20.0.0.2 lookup 1");
    ip("-6 rule add from 2000::1 lookup 1");
}

fn gateways() -> Dual<ipnet::IpNet> {
    Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() }
}

/// What a packet from the first VIP meets.
fn egress() -> String {
    ip("route get 198.51.100.1 from 20.0.0.1 iif bridge0")
}

fn patient() -> Settings {
    Settings { adoption: Duration::from_secs(600), ..settings() }
}

fn rules() -> String {
    format!("{}{}", ip("rule"), ip("-6 rule"))
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
        assert!(ip("link show bridge0").contains("02:aa:bb:cc:dd:ee"), "an adopted bridge keeps its address");
        assert!(
            rules().contains("32765:\tfrom 20.0.0.1 lookup 1"),
            "not touched before the VIPs are known: {}",
            rules()
        );
        assert!(egress().contains("dev bridge0 table 1"), "{}", egress());
        assert_eq!(first.next_hops.get(Family::V4).map(std::collections::BTreeSet::len), Some(2));

        kernel.set_vips(&["20.0.0.1/32".parse().unwrap(), "2000::1/128".parse().unwrap()]);
        kernel.settled().await;
        let now = rules();
        assert!(!now.contains("from 20.0.0.1 lookup 1") && !now.contains("20.0.0.2"), "{now}");
        assert!(now.contains("from 20.0.0.1 iif bridge0 lookup 1"), "{now}");
        assert!(egress().contains("dev bridge0 table 1"), "{}", egress());

        let _port = kernel.port(name("lb-new"), "lb-1");
        let _hop = kernel.next_hop("172.16.1.2".parse().unwrap(), "lb-1");
        kernel.settled().await;
        assert!(
            ip("route show table 1").contains("172.16.1.4"),
            "adopted until the mesh has tried every load balancer"
        );
        kernel.mesh_settled();
        kernel.settled().await;
        let route = ip("route show table 1");
        assert!(
            route.contains("default via 172.16.1.2 dev bridge0 proto 200") && !route.contains("172.16.1.4"),
            "{route}"
        );
        let state = kernel.status().borrow().clone();
        assert_eq!(state.orphans, [name("lb-go")].into());
        assert!(!ip("link show lb-go").contains("master"), "taken out, not deleted");
        assert!(ip("link show target-go").contains("master bridge0"), "its target may come back");
        assert!(rules().contains("iif lb-go blackhole"), "{}", rules());
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
        let left = ip("addr show bridge0");
        assert!(
            left.contains("172.16.1.9/24") && !left.contains("172.16.1.1/") && !left.contains("fd00"),
            "{left}"
        );
        assert!(!ip("route show table 1").contains("nexthop"), "{}", ip("route show table 1"));
        tasks.stop().await;
    });
}

#[test]
fn g08_a_killed_process_leaves_a_state_that_its_successor_does_not_change() {
    in_netns(|| async {
        for link in ["lb-1", "target-1"] {
            ip(&format!("link add {link} type veth peer name {link}p"));
            ip(&format!("link set {link} up"));
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
        let before = [rules(), ip("route show table 1"), ip("-6 route show table 1"), ip("addr"), ip("link")];
        let tasks = Tasks::default();
        let kernel = start_with(settings(), &tasks).await;
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().writes, 0, "looking changes nothing");
        let _guards = declare(&kernel);
        kernel.mesh_settled();
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().writes, 0, "{:?}", kernel.status().borrow());
        assert_eq!(
            before,
            [rules(), ip("route show table 1"), ip("-6 route show table 1"), ip("addr"), ip("link")]
        );
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
        assert!(egress().contains("dev bridge0 table 1"), "{}", egress());
        eventually(rules, |rules| !rules.contains("lookup 1 ") && !rules.contains("lookup 1\n")).await;
        tasks.stop().await;
    });
}
