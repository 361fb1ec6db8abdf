// SPDX-License-Identifier: Apache-2.0

//! Tests neighbour discovery over a bridge on which a query for multicast listeners has been sent.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::time::{Instant, sleep};

use super::{
    far::Far,
    netns::{eventually, in_netns, start},
};
use crate::task::Tasks;
use crate::testing::witness::{
    add_address, add_bridge, add_veth, change_link, delete_link, links, neighbour, query, set_port, snoop,
    snooping,
};

const LATE: &str = "fd00::9";

/// A neighbour that queries for multicast listeners over a port of the bridge; any port may.
fn querier() -> Far {
    let far = Far::new();
    add_veth("nsm-q", "nsm-qp");
    far.take("nsm-qp");
    set_port("nsm-q", "bridge0");
    far.run(|| {
        add_bridge("br", [2, 0, 0, 0, 0, 0x77]);
        set_port("nsm-qp", "br");
        change_link("br", |link| link.up());
        add_address("br", "fe80::77/64");
        query("br");
    });
    far
}

/// Number of queries for multicast listeners that this namespace has sent, and of its own reports.
fn multicast_messages() -> (u64, u64) {
    let counters = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let counter = |name: &str| {
        let line = counters.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    (counter("Icmp6InGroupMembQueries "), counter("Icmp6OutMLDv2Reports "))
}

/// After this time without a report none follows: detection of a duplicate address takes up to 2 s,
/// and the report of the address that it has found unique up to another 2 s.
const SILENCE: Duration = Duration::from_secs(4);

/// A neighbour whose link becomes a port long after the neighbour has reported its multicast
/// groups.
async fn late() -> Far {
    let far = Far::new();
    add_veth("nsm-9", "nsm-9p");
    far.take("nsm-9p");
    change_link("nsm-9", |link| link.up());
    far.run(|| {
        change_link("nsm-9p", |link| link.up());
        add_address("nsm-9p", &format!("{LATE}/64"));
    });
    let mut reported = 0;
    let mut last = Instant::now();
    while reported == 0 || last.elapsed() < SILENCE {
        let now = far.run(|| multicast_messages().1);
        if now != reported {
            (reported, last) = (now, Instant::now());
        }
        sleep(Duration::from_millis(20)).await;
    }
    far
}

/// The state of the neighbour's entry.
fn known() -> Option<NeighbourState> {
    neighbour("bridge0", LATE.parse().unwrap())
}

/// Sends a packet to it, for which its link-layer address is needed.
fn ask() -> Option<NeighbourState> {
    let late = SocketAddr::new(LATE.parse().unwrap(), 9);
    drop(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap().send_to(b"?", late));
    known()
}

#[test]
fn a_query_for_listeners_does_not_hide_a_port_that_comes_later() {
    in_netns(|| async {
        add_bridge("bridge0", [2, 0, 0, 0, 0, 1]); // as the Go proxy creates it
        change_link("bridge0", |link| link.up());
        add_address("bridge0", "fd00::1/64");
        assert!(snooping("bridge0"), "the trap is there");
        let querier = querier();
        eventually(multicast_messages, |(queries, _)| *queries > 0).await;
        let late = late().await;
        set_port("nsm-9", "bridge0");
        ask();
        assert_eq!(
            eventually(known, |state| *state != Some(NeighbourState::Incomplete)).await,
            Some(NeighbourState::Failed),
            "the trap is there"
        );

        let tasks = Tasks::default();
        let kernel = start(&tasks).await;
        kernel.settled().await;
        assert!(!snooping("bridge0"), "an adopted bridge");
        eventually(ask, |state| *state == Some(NeighbourState::Reachable)).await;
        drop((late, querier));
        tasks.stop().await;
    });
}

#[test]
fn a_bridge_that_we_make_or_that_others_change_floods_multicast() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let kernel = start(&tasks).await;
        kernel.settled().await;
        assert!(!snooping("bridge0"));
        snoop("bridge0");
        eventually(|| snooping("bridge0"), |on| !on).await;
        delete_link("bridge0");
        eventually(links, |links| links.iter().any(|link| link.name == "bridge0")).await;
        assert!(!snooping("bridge0"));
        tasks.stop().await;
    });
}
