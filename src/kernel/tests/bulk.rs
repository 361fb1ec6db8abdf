// SPDX-License-Identifier: Apache-2.0

//! Tests many VIPs over a real kernel: single connections do not wait for them.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{
    balancer::make_link,
    linux::working,
    netns::{in_netns, name, status},
};
use crate::testing::witness::change_link;
use crate::{
    kernel::{Ends, PeerId},
    task::Tasks,
};

/// VIPs that are not adjacent, so that each has its own rules.
fn ten_thousand() -> Vec<IpNet> {
    (0..10_000u32).map(|n| IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x1400_0000 + 2 * n)))).collect()
}

#[test]
fn a_target_and_a_next_hop_do_not_wait_for_ten_thousand_vips() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _balancers) = working(&tasks).await;
        make_link("nsm-1");
        let hop = "172.16.1.2".parse().unwrap();
        change_link("lb-1p", |far| far.down());
        status(&kernel, |status| !status.has_next_hop(hop)).await;
        kernel.set_vips(&ten_thousand());
        status(&kernel, |status| !status.vips).await;

        let joins = Instant::now();
        let _port = kernel.port(&PeerId::target("target-1"), name("nsm-1"), Ends::default());
        let joined = status(&kernel, |status| status.ports.contains(&name("nsm-1"))).await;
        println!("a port after {:?}", joins.elapsed());
        let heals = Instant::now();
        change_link("lb-1p", |far| far.up());
        let healed = status(&kernel, |status| status.has_next_hop(hop)).await;
        println!("a next hop after {:?}", heals.elapsed());
        assert!(!joined.vips && !healed.vips, "all VIPs are in: they were not waited past");
        assert!(joins.elapsed() < Duration::from_secs(5), "{:?}", joins.elapsed());
        tasks.stop().await;
    });
}
