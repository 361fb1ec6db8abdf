// SPDX-License-Identifier: Apache-2.0

//! Tests the handle over a real kernel.

use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::packet_route::{
    address::{AddressFlags, AddressScope},
    route::RouteType,
};
use tokio::time::Instant;

use super::{
    balancer::{self, Balancer, make_link},
    netns::{dropped, egress, eventually, in_netns, name, routed, set_sysctl, settings, start_with, status},
};
use crate::testing::witness::{
    Action, Address, MAIN, NextHop, Route, Way, add_address, add_bridge, add_route, add_veth, addresses,
    change_link, delete_link, link, neighbours, route_get, routes, rules, set_neighbour, snapshot,
};
use crate::{
    api::{Dual, Family},
    kernel::{Degraded, Ends, Kernel, PeerId, Settings, Status, wrong_sysctls},
    task::Tasks,
};

fn gateways() -> Dual<IpNet> {
    Dual { v4: Some("172.16.1.1/24".parse().unwrap()), v6: Some("fd00::1/64".parse().unwrap()) }
}

fn vips() -> Vec<IpNet> {
    ["20.0.0.1/32", "2000::1/128"].map(|vip| vip.parse().unwrap()).into()
}

/// One VIP and two load balancers, `lb-1` and `lb-2`.
pub(super) async fn working(tasks: &Tasks) -> (Kernel, [Balancer; 2]) {
    working_with(settings(), tasks).await
}

async fn working_with(settings: Settings, tasks: &Tasks) -> (Kernel, [Balancer; 2]) {
    let kernel = start_with(settings, tasks).await;
    kernel.set_gateways(gateways());
    kernel.set_vips(&vips());
    let balancers = [("lb-1", ["172.16.1.2", "fd00::2"]), ("lb-2", ["172.16.1.4", "fd00::4"])];
    let balancers = balancers.map(|(link, addresses)| balancer::in_netns(&kernel, link, &addresses));
    kernel.settled().await;
    let hops = |status: &Status| status.next_hops.iter().map(|(_, hops)| hops.len()).sum::<usize>();
    status(&kernel, |status| hops(status) == 4).await;
    let state = kernel.status().borrow().clone();
    assert_eq!((&state.failures, &state.degraded), (&vec![], &vec![]), "{state:?}");
    assert!(state.leak_stop && state.vips, "{state:?}");
    (kernel, balancers)
}

/// The working default route of table 1.
pub(super) fn working_route(hops: &[&str]) -> Route {
    let hops: Vec<_> = hops.iter().map(|via| NextHop::new(via, "bridge0")).collect();
    let (to, metric) = if hops[0].via.unwrap().is_ipv6() { ("::/0", 1024) } else { ("0.0.0.0/0", 0) };
    Route { to: to.parse().unwrap(), metric, protocol: 200, kind: RouteType::Unicast, hops }
}

/// The blackhole behind it.
pub(super) fn blackhole(family: Family) -> Route {
    let to = if family == Family::V6 { "::/0" } else { "0.0.0.0/0" }.parse().unwrap();
    Route { to, metric: 4000, protocol: 200, kind: RouteType::BlackHole, hops: vec![] }
}

#[test]
fn what_is_declared_is_in_the_kernel_and_a_stop_leaves_nothing() {
    in_netns(|| async {
        let before = snapshot();
        let tasks = Tasks::default();
        let (kernel, hops) = working(&tasks).await;
        let bridge = link("bridge0");
        assert_eq!((bridge.mac, bridge.up), (settings().mac.0, true));
        let flags = |flags| AddressFlags::Permanent | flags;
        let expected = [
            ("172.16.1.1/24", AddressScope::Universe, flags(AddressFlags::empty())),
            ("fd00::1/64", AddressScope::Universe, flags(AddressFlags::Nodad)),
        ];
        let expected =
            expected.map(|(net, scope, flags)| Address { net: net.parse().unwrap(), scope, flags });
        assert_eq!(
            addresses("bridge0")
                .into_iter()
                .filter(|address| address.scope == AddressScope::Universe)
                .collect::<Vec<_>>(),
            expected
        );
        assert_eq!(
            routes(Family::V4, 1),
            [working_route(&["172.16.1.2", "172.16.1.4"]), blackhole(Family::V4)]
        );
        assert_eq!(routes(Family::V6, 1), [working_route(&["fd00::2", "fd00::4"]), blackhole(Family::V6)]);
        drop(hops);
        ["lb-1", "lb-2"].iter().for_each(|link| delete_link(link));
        kernel.stop(tokio::time::Instant::now() + std::time::Duration::from_secs(5)).await;
        assert_eq!(snapshot(), before);
        tasks.stop().await;
    });
}

fn all_dropped(input: &str) {
    for source in ["20.0.0.1", "20.0.0.9", "2000::1", "2000::9"] {
        dropped(source, input);
    }
}

fn primary_network() {
    add_veth("eth0", "far");
    add_address("eth0", "192.0.2.2/24");
    add_address("eth0", "2001:db8:9::2/64");
    change_link("eth0", |link| link.up());
    change_link("far", |link| link.up());
    add_route(MAIN, &[("192.0.2.1", None)]);
    add_route(MAIN, &[("2001:db8:9::1", None)]);
}

#[test]
fn e09_e10_no_packet_leaves_the_bridge_by_the_primary_network() {
    in_netns(|| async {
        primary_network();
        add_bridge("bridge0", [2, 0, 0, 0, 0, 1]);
        change_link("bridge0", |link| link.up());
        let primary = |via| Ok(Way { hop: NextHop::new(via, "eth0"), table: MAIN });
        assert_eq!(egress("20.0.0.1", "bridge0"), primary("192.0.2.1"), "the trap is there");
        assert_eq!(egress("2000::1", "bridge0"), primary("2001:db8:9::1"), "the trap is there");
        let tasks = Tasks::default();
        let settings = Settings { empty_vips_grace: Duration::ZERO, ..settings() };
        let kernel = start_with(settings, &tasks).await;
        kernel.settled().await;
        all_dropped("bridge0"); // before anything is declared
        kernel.set_gateways(gateways());
        kernel.set_vips(&vips());
        kernel.settled().await;
        all_dropped("bridge0"); // no load balancer
        let hops = balancer::in_netns(&kernel, "lb-1", &["172.16.1.2", "fd00::2"]);
        status(&kernel, |status| status.next_hops.iter().all(|(_, hops)| hops.len() == 1)).await;
        routed("20.0.0.1", "bridge0", &["172.16.1.2"]);
        routed("2000::1", "bridge0", &["fd00::2"]);
        dropped("20.0.0.9", "bridge0"); // not a VIP
        kernel.set_vips(&[]);
        status(&kernel, |status| status.vips && status.degraded.is_empty()).await;
        eventually(rules, |rules| rules.iter().all(|rule| rule.action != Action::Lookup(1))).await;
        all_dropped("bridge0"); // an empty list
        kernel.set_vips(&vips());
        drop(hops);
        kernel.settled().await;
        all_dropped("bridge0"); // the last load balancer is gone
        let own = route_get("198.51.100.1".parse().unwrap(), None);
        assert_eq!(own, primary("192.0.2.1"), "the pod's own packets are not concerned");
        tasks.stop().await;
    });
}

#[test]
fn a_link_before_and_after_being_a_port_leaks_nothing() {
    in_netns(|| async {
        primary_network();
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        let port = kernel.port(&PeerId::target("target"), name("nsm-1"), Ends::default());
        kernel.settled().await;
        add_veth("nsm-1", "t1");
        change_link("nsm-1", |link| link.up());
        all_dropped("nsm-1");
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        drop(port);
        eventually(|| link("nsm-1"), |link| link.controller.is_none()).await;
        all_dropped("nsm-1");
        let _again = kernel.port(&PeerId::target("target"), name("nsm-1"), Ends::default());
        eventually(|| link("nsm-1"), |link| link.controller.as_deref() == Some("bridge0")).await;
        kernel.stop(Instant::now() + Duration::from_secs(5)).await;
        all_dropped("bridge0"); // stopped, with a target that still sends
        all_dropped("nsm-1");
        tasks.stop().await;
    });
}

#[test]
fn g39_a_sysctl_that_is_wrong_is_named() {
    in_netns(|| async {
        let bridge = name("bridge0");
        assert_eq!(
            wrong_sysctls(&Family::BOTH, &bridge),
            [],
            "those that the init container sets are enough"
        );
        add_bridge("bridge0", [2, 0, 0, 0, 0, 1]);
        set_sysctl("net.ipv6.conf.all.forwarding", "0");
        set_sysctl("net.ipv4.conf.bridge0.rp_filter", "1");
        let wrong = wrong_sysctls(&Family::BOTH, &bridge);
        let keys: Vec<&str> = wrong.iter().map(|wrong| wrong.key.as_str()).collect();
        assert_eq!(keys, ["net.ipv4.conf.bridge0.rp_filter", "net.ipv6.conf.all.forwarding"]);
    });
}

#[test]
fn ipv4_goes_on_while_ipv6_is_disabled() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let soon = Settings { max_backoff: Duration::from_millis(200), ..settings() };
        let (kernel, [one, two]) = working_with(soon, &tasks).await;
        let before = kernel.status().borrow().clone();
        set_sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        let named = |status: &Status| {
            let sysctl = |degraded: &Degraded| match degraded {
                Degraded::Sysctl(sysctl) => Some(sysctl.key.clone()),
                _ => None,
            };
            status.degraded.iter().filter_map(sysctl).eq(["net.ipv6.conf.all.disable_ipv6"])
        };
        let disabled = status(&kernel, named).await;
        let hops = |status: &Status, family| status.next_hops.get(family).cloned().unwrap_or_default();
        assert_eq!(hops(&disabled, Family::V6), [].into());
        assert_eq!((disabled.failures, disabled.writes), (vec![], before.writes + 1), "its blackhole");
        assert_eq!(
            routes(Family::V4, 1),
            [working_route(&["172.16.1.2", "172.16.1.4"]), blackhole(Family::V4)]
        );

        // Load balancers come and go meanwhile.
        drop(one);
        kernel.settled().await;
        assert_eq!(routes(Family::V4, 1), [working_route(&["172.16.1.4"]), blackhole(Family::V4)]);
        let _one = balancer::declare(&kernel, "lb-1", &["172.16.1.2", "fd00::2"]);
        let whole = |status: &Status, family| hops(status, family).len() == 2;
        let again = status(&kernel, |status| whole(status, Family::V4)).await;
        assert_eq!(again.failures, []);
        routed("20.0.0.1", "bridge0", &["172.16.1.2", "172.16.1.4"]);

        set_sysctl("net.ipv6.conf.all.disable_ipv6", "0");
        status(&kernel, |status| whole(status, Family::V6) && status.degraded.is_empty()).await;
        routed("2000::1", "bridge0", &["fd00::2", "fd00::4"]);
        drop(two);
        tasks.stop().await;
    });
}

#[test]
fn a_reconnected_load_balancer_is_resolved_again() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, hops) = working(&tasks).await;
        const OLD: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
        let [first, first_v6, second] =
            ["172.16.1.2", "fd00::2", "172.16.1.4"].map(|address| address.parse().unwrap());
        [first, first_v6, second].iter().for_each(|address| set_neighbour("bridge0", *address, OLD));
        let old =
            || neighbours("bridge0").into_iter().filter(|(_, mac)| mac == &OLD).map(|(address, _)| address);
        assert!(old().eq([first, second, first_v6]), "{:?}", neighbours("bridge0"));

        // The next hops of the first are removed and added; the reconciler may see both at once.
        let [Balancer { port: _port, next_hops }, _other] = hops;
        drop(next_hops);
        let lb = PeerId::load_balancer("lb-1");
        let _again = ["172.16.1.2", "fd00::2"].map(|address| kernel.next_hop(&lb, address.parse().unwrap()));
        kernel.settled().await;
        assert!(old().eq([second]), "only the other one stays known: {:?}", neighbours("bridge0"));
        tasks.stop().await;
    });
}

#[test]
fn a_load_balancer_with_a_new_link_is_resolved_again() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _others) = working(&tasks).await;
        const OLD: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
        let [v4, v6, other] = ["172.16.1.6", "fd00::6", "172.16.1.2"].map(|address| address.parse().unwrap());
        let _balancer = balancer::declare(&kernel, "nsm-6", &["172.16.1.6", "fd00::6"]);
        let linked = async || {
            make_link("nsm-6");
            eventually(|| link("nsm-6"), |link| link.controller.as_deref() == Some("bridge0")).await;
        };
        linked().await;
        kernel.settled().await;
        let old =
            || neighbours("bridge0").into_iter().filter(|(_, mac)| mac == &OLD).map(|(address, _)| address);
        // The entries must have been removed before the new ones are learned.
        status(&kernel, |status| status.ports.contains(&name("nsm-6"))).await;
        [v4, v6, other].iter().for_each(|address| set_neighbour("bridge0", *address, OLD));
        delete_link("nsm-6");
        linked().await;
        eventually(|| Vec::from_iter(old()), |old| old == &[other]).await;
        tasks.stop().await;
    });
}

#[test]
fn a_next_hop_goes_when_its_link_vanishes_or_loses_its_carrier() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (_kernel, _balancers) = working(&tasks).await;
        let both = [working_route(&["172.16.1.2", "172.16.1.4"]), blackhole(Family::V4)];
        let second = [working_route(&["172.16.1.4"]), blackhole(Family::V4)];
        let now = || routes(Family::V4, 1);
        change_link("lb-1p", |far| far.down());
        eventually(now, |routes| *routes == second).await;
        change_link("lb-1p", |far| far.up());
        eventually(now, |routes| *routes == both).await;
        change_link("lb-1", |link| link.down());
        eventually(now, |routes| *routes == second).await;
        change_link("lb-1", |link| link.up());
        eventually(now, |routes| *routes == both).await;
        delete_link("lb-1");
        eventually(now, |routes| *routes == second).await;
        assert_eq!(routes(Family::V6, 1), [working_route(&["fd00::4"]), blackhole(Family::V6)]);
        make_link("lb-1");
        eventually(now, |routes| *routes == both).await;
        tasks.stop().await;
    });
}
