// SPDX-License-Identifier: Apache-2.0

//! What Linux does without saying so, each of which has once stopped traffic.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

use super::{
    linux::{dropped, hop, working},
    netns::{eventually, in_netns, ip, name, status},
    witness::Witness,
};
use crate::chain::Tasks;

fn port(port: &str) {
    ip(&format!("link add {port} type veth peer name {port}p"));
    ip(&format!("link set {port} up"));
    ip(&format!("link set {port}p up"));
}

#[test]
fn l09_a_port_taken_out_by_others_is_not_gone_and_comes_back() {
    in_netns(|| async {
        use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage::DelLink};
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        port("nsm-1");
        let _port = kernel.port(name("nsm-1"), "target");
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        let witness = Witness::open();
        ip("link set nsm-1 nomaster");
        eventually(|| ip("link show nsm-1"), |link| link.contains("master bridge0")).await;
        let heard = witness.heard();
        let bridge_says_gone = |event: &_| matches!(event, DelLink(link) if link.header.interface_family == AddressFamily::Bridge);
        assert!(heard.iter().any(bridge_says_gone), "the trap is there: {heard:?}");
        status(&kernel, |status| status.ports.contains(&name("nsm-1")) && status.degraded.is_empty()).await;
        tasks.stop().await;
    });
}

#[test]
fn a_bridge_that_others_set_down_has_its_routes_and_addresses_again() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        let look = || [ip("addr show bridge0"), ip("route show table 1"), ip("-6 route show table 1")];
        let before = look();
        let passes = kernel.status().borrow().passes;
        ip("link set bridge0 down");
        status(&kernel, |status| status.passes > passes && status.degraded.is_empty()).await;
        eventually(look, |now| *now == before).await;
        tasks.stop().await;
    });
}

#[test]
fn a_bridge_that_others_remove_is_made_anew_with_the_same_address() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        port("nsm-1");
        let _port = kernel.port(name("nsm-1"), "target");
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        ip("link del bridge0");
        dropped("20.0.0.1", "nsm-1");
        let mac = super::netns::settings().mac.to_string();
        eventually(|| ip("link"), |links| links.contains(&mac) && links.contains("master bridge0")).await;
        eventually(|| ip("route show table 1"), |route| route.contains("172.16.1.2 dev bridge0")).await;
        tasks.stop().await;
    });
}

#[test]
fn e07_a_gateway_address_added_after_those_of_the_ports_still_leads_by_way_of_the_bridge() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        port("nsm-1");
        ip("addr add 172.16.1.3/24 dev nsm-1");
        ip("-6 addr add fd00::3/64 dev nsm-1 nodad");
        let _port = kernel.port(name("nsm-1"), "lb");
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        let passes = kernel.status().borrow().passes;
        ip("addr flush dev bridge0 scope global");
        status(&kernel, |status| status.passes > passes && status.degraded.is_empty()).await;
        eventually(|| ip("addr show bridge0"), |a| a.contains("172.16.1.1/24") && a.contains("fd00::1/64"))
            .await;
        let first = ip("route show 172.16.1.0/24");
        assert!(
            first.lines().next().is_some_and(|route| route.contains("dev nsm-1")),
            "the trap is there: {first}"
        );
        let _another = hop(&kernel, "172.16.1.9");
        kernel.settled().await;
        let egress = ip("route get 198.51.100.1 from 20.0.0.1 iif bridge0");
        assert!(egress.contains("dev bridge0 table 1"), "{egress}");
        assert!(!ip("route show table 1").contains("nsm-1"), "{}", ip("route show table 1"));
        tasks.stop().await;
    });
}

#[test]
fn a_rule_that_is_there_twice_is_made_one() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        // The kernel refuses an equal rule only if it is asked to; `ip` asks, a second protocol gets around it.
        ip("rule add from 20.0.0.1 iif bridge0 lookup 1 priority 29999 protocol 200");
        eventually(|| ip("rule"), |rules| !rules.contains("29999")).await;
        ip("rule del priority 32765");
        eventually(|| ip("rule"), |rules| rules.contains("iif bridge0 blackhole")).await;
        status(&kernel, |status| status.leak_stop).await;
        tasks.stop().await;
    });
}

/// A thread in a namespace of its own, to which a link is moved.
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
    let (process, task) = (std::process::id(), told.recv().unwrap());
    ip(&format!("link set {link} netns /proc/{process}/task/{task}/ns/net"));
    go.send(()).unwrap();
    thread
}

#[test]
fn the_leak_stop_does_not_concern_what_neighbours_say_to_the_bridge_itself() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hops) = working(&tasks).await;
        ip("link add nsm-1 type veth peer name nsm-1p");
        ip("link set nsm-1 up");
        let _port = kernel.port(name("nsm-1"), "target");
        status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        let gateways: [SocketAddr; 2] =
            ["172.16.1.1:5000", "[fd00::1]:5000"].map(|address| address.parse().unwrap());
        let sockets = gateways.map(|gateway| UdpSocket::bind(gateway).unwrap());
        let target = neighbour("nsm-1p", move || {
            ip("link set nsm-1p up");
            ip("addr add 172.16.1.7/24 dev nsm-1p");
            ip("-6 addr add fd00::7/64 dev nsm-1p nodad");
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
