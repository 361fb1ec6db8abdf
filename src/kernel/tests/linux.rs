// SPDX-License-Identifier: Apache-2.0

//! The handle over a real kernel.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::time::Instant;

use super::netns::{eventually, in_netns, ip, ip_fails, name, settings, start, start_with, status};
use crate::{
    api::{Dual, Family},
    chain::Tasks,
    kernel::{Kernel, NextHopGuard, Settings, wrong_sysctls},
};

fn gateways() -> Dual<IpNet> {
    Dual { v4: Some("172.16.1.1/24".parse().unwrap()), v6: Some("fd00::1/64".parse().unwrap()) }
}

fn vips() -> Vec<IpNet> {
    ["20.0.0.1/32", "2000::1/128"].map(|vip| vip.parse().unwrap()).into()
}

pub(super) fn hop(kernel: &Kernel, address: &str) -> NextHopGuard {
    kernel.next_hop(address.parse::<IpAddr>().unwrap(), "lb")
}

/// One VIP and two next hops per family.
pub(super) async fn working(tasks: &Tasks) -> (Kernel, [NextHopGuard; 4]) {
    let kernel = start(tasks).await;
    kernel.set_gateways(gateways());
    kernel.set_vips(&vips());
    let hops = ["172.16.1.2", "172.16.1.4", "fd00::2", "fd00::4"].map(|address| hop(&kernel, address));
    kernel.settled().await;
    let state = kernel.status().borrow().clone();
    assert_eq!((&state.failures, &state.degraded), (&vec![], &vec![]), "{state:?}");
    assert!(state.leak_stop && state.vips, "{state:?}");
    (kernel, hops)
}

#[test]
fn what_is_declared_is_in_the_kernel_and_a_stop_leaves_nothing() {
    in_netns(|| async {
        let before = [
            ip("-d link"),
            ip("addr"),
            ip("rule"),
            ip("-6 rule"),
            ip("route show table all"),
            ip("-6 route show table all"),
        ];
        let tasks = Tasks::default();
        let (kernel, hops) = working(&tasks).await;
        assert!(ip("-d link show bridge0").contains(&super::netns::settings().mac.to_string()));
        assert!(ip("addr show bridge0").contains("inet6 fd00::1/64 scope global nodad"));
        let route = ip("route show table 1");
        for expected in [
            "nexthop via 172.16.1.2 dev bridge0",
            "nexthop via 172.16.1.4 dev bridge0",
            "blackhole default proto 200 metric 4000",
        ] {
            assert!(route.contains(expected), "{expected} in {route}");
        }
        drop(hops);
        kernel.stop(tokio::time::Instant::now() + std::time::Duration::from_secs(5)).await;
        let after = [
            ip("-d link"),
            ip("addr"),
            ip("rule"),
            ip("-6 rule"),
            ip("route show table all"),
            ip("-6 route show table all"),
        ];
        assert_eq!(before, after);
        tasks.stop().await;
    });
}

/// A packet with this source that enters by this link finds no way out.
pub(super) fn dropped(source: &str, input: &str) {
    let to = if source.contains(':') { "2001:db8::1" } else { "198.51.100.1" };
    let complaint = ip_fails(&format!("route get {to} from {source} iif {input}"));
    assert!(complaint.contains("Invalid argument"), "{source} {input}: {complaint}");
}

/// What packets from the VIPs meet that enter by a link.
fn egress(input: &str) -> [String; 2] {
    let v4 = ip(&format!("route get 198.51.100.1 from 20.0.0.1 iif {input}"));
    [v4, ip(&format!("route get 2001:db8::1 from 2000::1 iif {input}"))]
}

fn all_dropped(input: &str) {
    for source in ["20.0.0.1", "20.0.0.9", "2000::1", "2000::9"] {
        dropped(source, input);
    }
}

fn primary_network() {
    ip("link add eth0 type veth peer name far");
    ip("addr add 192.0.2.2/24 dev eth0");
    ip("-6 addr add 2001:db8:9::2/64 dev eth0 nodad");
    ip("link set eth0 up");
    ip("link set far up");
    ip("route add default via 192.0.2.1");
    ip("-6 route add default via 2001:db8:9::1");
}

#[test]
fn e09_e10_nothing_from_the_bridge_finds_the_primary_network_at_any_time() {
    in_netns(|| async {
        primary_network();
        ip("link add bridge0 type bridge");
        ip("link set bridge0 up");
        assert!(egress("bridge0").iter().all(|way| way.contains("dev eth0")), "the trap is there");
        let tasks = Tasks::default();
        let settings = Settings { empty_vips_grace: Duration::ZERO, ..settings() };
        let kernel = start_with(settings, &tasks).await;
        kernel.settled().await;
        all_dropped("bridge0"); // before anything is known
        kernel.set_gateways(gateways());
        kernel.set_vips(&vips());
        kernel.settled().await;
        all_dropped("bridge0"); // no load balancer
        let hops = ["172.16.1.2", "fd00::2"].map(|address| hop(&kernel, address));
        kernel.settled().await;
        assert!(
            egress("bridge0").iter().all(|way| way.contains("dev bridge0 table 1")),
            "{:?}",
            egress("bridge0")
        );
        dropped("20.0.0.9", "bridge0"); // not a VIP
        kernel.set_vips(&[]);
        status(&kernel, |status| status.vips && status.degraded.is_empty()).await;
        eventually(|| ip("rule"), |rules| !rules.contains("lookup 1 ")).await;
        all_dropped("bridge0"); // an empty list
        kernel.set_vips(&vips());
        drop(hops);
        kernel.settled().await;
        all_dropped("bridge0"); // the last load balancer is gone
        let own = ip("route get 198.51.100.1");
        assert!(own.contains("via 192.0.2.1 dev eth0"), "the pod's own packets are not concerned: {own}");
        tasks.stop().await;
    });
}

#[test]
fn nothing_from_a_link_that_is_not_yet_or_no_longer_a_port_finds_the_primary_network() {
    in_netns(|| async {
        primary_network();
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        let port = kernel.port(name("nsm-1"), "target");
        kernel.settled().await;
        ip("link add nsm-1 type veth peer name t1");
        ip("link set nsm-1 up");
        all_dropped("nsm-1");
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        drop(port);
        eventually(|| ip("link show nsm-1"), |link| !link.contains("master")).await;
        all_dropped("nsm-1");
        let _again = kernel.port(name("nsm-1"), "target");
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        kernel.stop(Instant::now() + Duration::from_secs(5)).await;
        all_dropped("bridge0"); // stopped, with a target that still sends
        all_dropped("nsm-1");
        tasks.stop().await;
    });
}

#[test]
fn g39_sysctls_that_a_fresh_namespace_lacks_are_named() {
    in_netns(|| async {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv4/fib_multipath_hash_policy", "1").unwrap();
        let wrong: Vec<&str> = wrong_sysctls(&Family::BOTH).iter().map(|wrong| wrong.key).collect();
        assert!(wrong.contains(&"net.ipv6.conf.all.forwarding"), "{wrong:?}");
        assert!(!wrong.contains(&"net.ipv4.fib_multipath_hash_policy"), "{wrong:?}");
        assert!(!wrong.contains(&"net.ipv4.conf.all.forwarding"), "the tests set it: {wrong:?}");
    });
}

#[test]
fn a_load_balancer_that_is_connected_again_is_asked_for_its_link_layer_address() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, hops) = working(&tasks).await;
        let stale = |address: &str| {
            ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:99 dev bridge0 nud permanent"))
        };
        let known = || ip("neigh show dev bridge0");
        ["172.16.1.2", "fd00::2", "172.16.1.4"].iter().for_each(|address| drop(stale(address)));
        assert_eq!(known().matches("02:00:00:00:00:99").count(), 3, "{}", known());

        // Each family's first next hop goes and comes; the reconciler may see both at once.
        let [v4, other, v6, other_v6] = hops;
        drop((v4, v6));
        let again = ["172.16.1.2", "fd00::2"].map(|address| hop(&kernel, address));
        kernel.settled().await;
        assert_eq!(known().matches("02:00:00:00:00:99").count(), 1, "{}", known());
        assert!(known().contains("172.16.1.4"), "the other one stays known: {}", known());
        drop((again, other, other_v6));
        tasks.stop().await;
    });
}
