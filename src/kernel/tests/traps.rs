// SPDX-License-Identifier: Apache-2.0

//! Tests undocumented behaviour of Linux, each of which has once stopped traffic.

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

use super::{
    balancer::{self, make_link},
    linux::{blackhole, working, working_route},
    netns::{dropped, eventually, in_netns, name, routed, settings, status},
};
use crate::testing::witness::{
    Action, Announcements, Link, MAIN, Rule, add_address, add_rule, add_veth, addresses, change_link,
    delete_link, delete_rule, flush_addresses, link, links, routes, rules,
};
use crate::{
    api::Family,
    kernel::{Ends, PeerId},
    task::Tasks,
};

#[test]
fn l09_a_port_taken_out_by_others_is_not_gone_and_comes_back() {
    in_netns(|| async {
        use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage::DelLink};
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        make_link("nsm-1");
        let _port = kernel.port(&PeerId::target("target"), name("nsm-1"), Ends::default());
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        let witness = Announcements::open();
        change_link("nsm-1", |link| link.nocontroller());
        eventually(|| link("nsm-1"), |link| link.controller.as_deref() == Some("bridge0")).await;
        let heard = witness.heard();
        let bridge_says_gone = |event: &_| matches!(event, DelLink(link) if link.header.interface_family == AddressFamily::Bridge);
        assert!(heard.iter().any(bridge_says_gone), "the trap is there: {heard:?}");
        status(&kernel, |status| status.ports.contains(&name("nsm-1")) && status.degraded.is_empty()).await;
        tasks.stop().await;
    });
}

#[test]
fn a_bridge_set_down_by_others_gets_its_routes_back() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        let look = || (link("bridge0"), addresses("bridge0"), Family::BOTH.map(|family| routes(family, 1)));
        let before = look();
        let passes = kernel.status().borrow().passes;
        change_link("bridge0", |link| link.down());
        status(&kernel, |status| status.passes > passes && status.degraded.is_empty()).await;
        eventually(look, |now| *now == before).await;
        tasks.stop().await;
    });
}

#[test]
fn a_removed_bridge_is_created_again_with_the_same_address() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        make_link("nsm-1");
        let _port = kernel.port(&PeerId::target("target"), name("nsm-1"), Ends::default());
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        delete_link("bridge0");
        dropped("20.0.0.1", "nsm-1");
        let whole = |links: &Vec<Link>| {
            let of = |name: &str| links.iter().find(|link| link.name == name);
            of("bridge0").is_some_and(|bridge| bridge.mac == settings().mac.0)
                && of("nsm-1").is_some_and(|port| port.controller.as_deref() == Some("bridge0"))
        };
        eventually(links, whole).await;
        let both = [working_route(&["172.16.1.2", "172.16.1.4"]), blackhole(Family::V4)];
        eventually(|| routes(Family::V4, 1), |routes| *routes == both).await;
        tasks.stop().await;
    });
}

#[test]
fn e07_a_late_gateway_address_still_routes_by_the_bridge() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        make_link("nsm-1");
        add_address("nsm-1", "172.16.1.3/24");
        add_address("nsm-1", "fd00::3/64");
        let _port = kernel.port(&PeerId::load_balancer("lb"), name("nsm-1"), Ends::default());
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        let passes = kernel.status().borrow().passes;
        flush_addresses("bridge0");
        status(&kernel, |status| status.passes > passes && status.degraded.is_empty()).await;
        let gateways = ["172.16.1.1/24", "fd00::1/64"].map(|net| net.parse().unwrap());
        let there = || addresses("bridge0").into_iter().map(|address| address.net).collect::<Vec<_>>();
        eventually(there, |there| gateways.iter().all(|gateway| there.contains(gateway))).await;
        let mut subnet = routes(Family::V4, MAIN);
        subnet.retain(|route| route.to == "172.16.1.0/24".parse().unwrap());
        assert_eq!(subnet[0].hops[0].dev, "nsm-1", "the trap is there: {subnet:?}");
        let _another = balancer::in_netns(&kernel, "lb-9", &["172.16.1.9"]);
        status(&kernel, |status| status.has_next_hop("172.16.1.9".parse().unwrap())).await;
        let hops = ["172.16.1.2", "172.16.1.4", "172.16.1.9"];
        routed("20.0.0.1", "bridge0", &hops);
        assert_eq!(routes(Family::V4, 1), [working_route(&hops), blackhole(Family::V4)]);
        tasks.stop().await;
    });
}

#[test]
fn a_rule_that_is_there_twice_is_made_one() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        // The kernel refuses an equal rule only with `NLM_F_EXCL`, which the witness sets; another
        // priority makes the rule a different one.
        let twin = Rule::lookup(29_999, "20.0.0.1/32", 1).iif("bridge0").protocol(200);
        add_rule(&twin);
        eventually(rules, |rules| !rules.contains(&twin)).await;
        let stops =
            || rules().into_iter().filter(|rule| rule.action == Action::Blackhole).collect::<BTreeSet<_>>();
        let before = stops();
        delete_rule(before.first().unwrap());
        eventually(stops, |now| *now == before).await;
        status(&kernel, |status| status.leak_stop).await;
        tasks.stop().await;
    });
}

/// Runs a function on a thread in a separate namespace, to which a link is moved.
fn neighbour<T: Send + 'static>(
    link: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let (tell, told) = std::sync::mpsc::channel();
    let (go, started) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tell.send(gettid()).unwrap();
        started.recv().unwrap();
        work()
    });
    let process = std::process::id();
    let task = told.recv().unwrap();
    let netns = std::fs::File::open(format!("/proc/{process}/task/{task}/ns/net")).unwrap();
    change_link(link, |link| link.setns_by_fd(netns.as_raw_fd()));
    go.send(()).unwrap();
    thread
}

#[test]
fn the_leak_stop_does_not_drop_packets_to_the_bridge_itself() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        add_veth("nsm-1", "nsm-1p");
        change_link("nsm-1", |link| link.up());
        let _port = kernel.port(&PeerId::target("target"), name("nsm-1"), Ends::default());
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        let gateways: [SocketAddr; 2] =
            ["172.16.1.1:5000", "[fd00::1]:5000"].map(|address| address.parse().unwrap());
        let sockets = gateways.map(|gateway| UdpSocket::bind(gateway).unwrap());
        let target = neighbour("nsm-1p", move || {
            change_link("nsm-1p", |link| link.up());
            add_address("nsm-1p", "172.16.1.7/24");
            add_address("nsm-1p", "fd00::7/64");
            gateways.map(|gateway| {
                let any = if gateway.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                let mut answer = [0; 16];
                (0..50).any(|_| {
                    let sent = socket.send_to(b"hello", gateway);
                    sent.is_ok()
                        && socket
                            .recv_from(&mut answer)
                            .is_ok_and(|(length, from)| length == 5 && from == gateway)
                })
            })
        });
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        while !target.is_finished() {
            for socket in &sockets {
                let mut text = [0; 16];
                match socket.recv_from(&mut text) {
                    Ok((length, from)) => drop(socket.send_to(&text[..length], from)),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(target.join().unwrap(), [true, true], "ARP, ND and packets to the gateways");
        tasks.stop().await;
    });
}
