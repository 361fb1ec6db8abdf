// SPDX-License-Identifier: Apache-2.0

//! Tests announcements over a real kernel: a load balancer learns the new MAC address of a target
//! whose link is made again.

use std::{
    net::{IpAddr, Ipv6Addr, UdpSocket},
    time::Duration,
};

use super::{
    far::Far,
    netns::{eventually, in_netns, name, set_sysctl, settings, start_with, status},
};
use crate::testing::witness::{add_address, add_veth, change_link, delete_link, learn_neighbour, neighbours};
use crate::{
    api::Dual,
    kernel::{Ends, Kernel, PeerId, PortGuard, Settings},
    task::Tasks,
};

const TARGET: [&str; 2] = ["172.16.1.9", "fd00::9"];
const OLD: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// The other end of a link, in a separate network namespace, with addresses.
fn connect(link: &str, addresses: [&'static str; 2]) -> Far {
    let far = Far::new();
    let peer = format!("{link}p");
    add_veth(link, &peer);
    far.take(&peer);
    change_link(link, |link| link.up());
    far.run(move || {
        change_link(&peer, |link| link.up());
        add_address(&peer, &format!("{}/24", addresses[0]));
        add_address(&peer, &format!("{}/64", addresses[1]));
    });
    far
}

/// An address in the form that a socket of both families uses.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Waits until a second has passed without an announcement of an address. The five of a target are
/// less than a second apart.
async fn quiet(balancer: &Far, address: IpAddr) {
    let outdated =
        || balancer.run(move || neighbours("lb-0p").get(&address).map(Vec::as_slice) == Some(&OLD));
    let mut silent = 0;
    while silent < 50 {
        silent = if outdated() { silent + 1 } else { 0 };
        balancer.run(move || learn_neighbour("lb-0p", address, OLD));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn declare(kernel: &Kernel, link: &str) -> PortGuard {
    let far = TARGET.map(|address| address.parse().unwrap());
    kernel.port(&PeerId::target("target-1"), name(link), Ends { near: [].into(), far: far.into() })
}

/// The load balancer's entries of the target's and the gateway's addresses.
fn known(balancer: &Far) -> Vec<(IpAddr, Vec<u8>)> {
    balancer.run(|| neighbours("lb-1p").into_iter().collect())
}

#[test]
fn a_load_balancer_learns_the_new_mac_of_a_reconnected_target() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let kernel = start_with(Settings { announce: true, ..settings() }, &tasks).await;
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() });
        let balancer = connect("lb-1", ["172.16.1.2", "fd00::2"]);
        let _balancer = kernel.port(&PeerId::load_balancer("lb-1"), name("lb-1"), Ends::default());
        status(&kernel, |status| status.ports.contains(&name("lb-1"))).await;
        let all: Vec<IpAddr> =
            [TARGET, ["172.16.1.1", "fd00::1"]].concat().iter().map(|it| it.parse().unwrap()).collect();
        let outdate = || {
            let all = all.clone();
            balancer.run(move || all.iter().for_each(|address| learn_neighbour("lb-1p", *address, OLD)));
        };
        let outdated = |wanted: &[IpAddr]| {
            let of = known(&balancer);
            of.into_iter().filter(|(address, mac)| wanted.contains(address) && mac == &OLD).count()
        };
        for link in ["nsm-1", "nsm-2"] {
            outdate();
            assert_eq!(outdated(&all), 4);
            let target = connect(link, TARGET);
            let port = declare(&kernel, link);
            eventually(|| outdated(&all[..2]), |count| *count == 0).await;
            drop(port);
            delete_link(link);
            drop(target);
        }
        assert_eq!(outdated(&all[2..]), 2, "the bridge has the MAC address that it had");
        change_link("bridge0", |bridge| bridge.address(vec![2, 0, 0, 0, 0, 0x55]));
        eventually(|| outdated(&all[2..]), |count| *count == 0).await;
        tasks.stop().await;
    });
}

/// A load balancer that resolves the target before its link is a port, and would retry after an
/// hour.
#[test]
fn a_load_balancer_that_asked_too_early_learns_the_targets() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let kernel = start_with(Settings { announce: true, ..settings() }, &tasks).await;
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() });
        let observer = connect("lb-0", ["172.16.1.3", "fd00::3"]);
        let _observer = kernel.port(&PeerId::load_balancer("lb-0"), name("lb-0"), Ends::default());
        let _target = connect("nsm-1", TARGET);
        let _port = declare(&kernel, "nsm-1");
        status(&kernel, |status| status.ports.len() == 2).await;
        let balancer = connect("lb-1", ["172.16.1.2", "fd00::2"]);
        let all: Vec<IpAddr> = TARGET.iter().map(|it| it.parse().unwrap()).collect();
        quiet(&observer, all[0]).await;
        let asked = all.clone();
        balancer.run(move || {
            for family in ["ipv4", "ipv6"] {
                set_sysctl(&format!("net.{family}.neigh.lb-1p.retrans_time_ms"), "3600000");
            }
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
            for address in asked {
                socket.send_to(&[], (mapped(address), 9)).unwrap();
            }
        });
        let of_targets = || known(&balancer).into_iter().filter(|(it, _)| all.contains(it)).count();
        assert_eq!(of_targets(), 0);
        let _balancer = kernel.port(&PeerId::load_balancer("lb-1"), name("lb-1"), Ends::default());
        eventually(of_targets, |count| *count == 2).await;
        tasks.stop().await;
    });
}
