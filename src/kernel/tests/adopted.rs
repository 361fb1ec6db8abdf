// SPDX-License-Identifier: Apache-2.0

//! Tests how long the kernel in memory keeps the objects of an earlier process, under paused time.

use std::{net::IpAddr, time::Duration};

use super::{
    balancer::{declare, in_memory},
    netns::name,
};
use crate::{
    api::Dual,
    kernel::{Backend, Ends, Kernel, Mac, Memory, Op, Ours, PeerId, Rule, Settings, Status},
    task::Tasks,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The objects of a killed process: ports `lb-1` and `lb-2` with next hops 172.16.1.2 and
/// 172.16.1.4, a target's port `target-1`, and `tap-1`, which belongs to no connection.
async fn left() -> Memory {
    let ours = Ours::default();
    let mut linux = Memory::default();
    let links = [
        ("lb-1", Some("server-px-lb-1")),
        ("lb-2", Some("server-px-lb-2")),
        ("target-1", Some("client-target-1")),
        ("tap-1", Some("uplink")),
    ];
    let ports = links.map(|(link, alias)| Op::Attach(name(link), linux.add_link(link, alias)));
    let rule = Rule { protocol: ours.protocol, ..vip() };
    let ops = [
        Op::CreateBridge(Mac([2; 6])),
        Op::AddAddress("172.16.1.1/24".parse().unwrap()),
        Op::SetNextHops(crate::api::Family::V4, [hop("172.16.1.2"), hop("172.16.1.4")].into()),
        Op::AddRule(rule),
    ];
    for op in ops.into_iter().chain(ports) {
        linux.apply(&ours, &op).await.unwrap();
    }
    linux
}

fn vip() -> Rule {
    let rules = crate::kernel::vip_rules(&Ours::default(), &["20.0.0.1/32".parse().unwrap()]);
    rules.first().unwrap().clone()
}

fn hop(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Rig {
    tasks: Tasks,
    linux: Memory,
    kernel: Kernel,
}

async fn rig() -> Rig {
    let tasks = Tasks::default();
    let linux = left().await;
    let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
    Rig { tasks, linux, kernel }
}

impl Rig {
    async fn after(&self, time: Duration) -> Status {
        tokio::time::sleep(time).await;
        self.kernel.settled().await;
        self.kernel.status().borrow().clone()
    }

    /// Names of the ports, and last parts of the next hops.
    async fn carries(&self) -> (Vec<String>, Vec<u8>) {
        self.kernel.settled().await;
        let observed = self.linux.observed(&Ours::default());
        let bridge = observed.bridge(&Ours::default()).unwrap().index;
        let last = |hop: &crate::kernel::Hop| match hop.via {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let ports = observed.ports_of(bridge).map(|(name, _)| name.to_string());
        (ports.collect(), observed.next_hops(crate::api::Family::V4).map(last).collect())
    }

    fn gateways(&self) {
        self.kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
    }

    fn registry_has(&self, ids: &[&str]) {
        self.kernel.set_registered(ids.iter().map(ToString::to_string).collect());
    }
}

const ALL: [&str; 4] = ["lb-1", "lb-2", "tap-1", "target-1"];

#[tokio::test(start_paused = true)]
async fn what_was_left_is_kept_however_long_a_start_takes() {
    let rig = rig().await;
    for step in ["nothing is known", "IPAM has answered", "an attempt has failed"] {
        match step {
            "IPAM has answered" => rig.gateways(),
            "an attempt has failed" => drop(declare(&rig.kernel, "lb-x", &[])),
            _ => {}
        }
        rig.after(HOUR).await;
        assert_eq!(rig.carries().await, (ALL.map(str::to_owned).into(), vec![2, 4]), "{step}");
    }
    rig.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_early_or_empty_list_of_the_registry_releases_nothing() {
    let rig = rig().await;
    rig.gateways();
    rig.registry_has(&["px-lb-3"]);
    rig.after(HOUR).await;
    assert_eq!(rig.carries().await, (ALL.map(str::to_owned).into(), vec![2, 4]), "before the proxy is ready");
    rig.kernel.ready();
    rig.registry_has(&[]);
    let status = rig.after(HOUR).await;
    assert_eq!(
        rig.carries().await,
        (ALL.map(str::to_owned).into(), vec![2, 4]),
        "ready, but the list is empty"
    );
    assert_eq!(status.orphans, ["lb-1", "lb-2", "target-1"].map(name).into());
    rig.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_that_the_registry_lacks_is_released() {
    let rig = rig().await;
    rig.gateways();
    rig.kernel.ready();
    rig.registry_has(&["px-lb-2"]);
    rig.kernel.settled().await;
    let ports = ["lb-2", "tap-1", "target-1"].map(str::to_owned);
    assert_eq!(rig.carries().await, (ports.into(), vec![2, 4]), "whose next hop is whose is not known yet");
    let peer = PeerId::load_balancer("px-lb-2");
    let _second = rig.kernel.port(&peer, name("lb-2"), Ends::default());
    let _hop = rig.kernel.next_hop(&peer, hop("172.16.1.4"));
    rig.kernel.settled().await;
    assert_eq!(rig.carries().await.1, [4]);
    rig.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_old_link_carries_until_its_successor_does() {
    let rig = rig().await;
    rig.gateways();
    let peer = PeerId::load_balancer("px-lb-1");
    let _port = rig.kernel.port(&peer, name("lb-new"), Ends::default());
    let _hop = rig.kernel.next_hop(&peer, hop("172.16.1.2"));
    assert_eq!(rig.carries().await, (ALL.map(str::to_owned).into(), vec![2, 4]));
    rig.linux.add_link("lb-new", Some("server-px-lb-1"));
    rig.after(Duration::from_secs(1)).await;
    let ports = ["lb-2", "lb-new", "tap-1", "target-1"].map(str::to_owned);
    assert_eq!(rig.carries().await, (ports.into(), vec![2, 4]));
    rig.linux.remove_link("lb-new");
    rig.after(Duration::from_secs(1)).await;
    assert_eq!(rig.carries().await.1, [4], "its next hop goes with its link");
    rig.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_is_withdrawn_so_that_its_link_can_be_replaced() {
    let rig = rig().await;
    rig.gateways();
    let _new = in_memory(&rig.linux, &rig.kernel, "lb-3", &["172.16.1.6"]);
    rig.kernel.settled().await;
    rig.kernel.withdraw([hop("172.16.1.2"), hop("172.16.1.6")]);
    assert_eq!(rig.carries().await.1, [4, 6], "what is declared stays");
    rig.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_no_connections_is_never_touched() {
    let rig = rig().await;
    rig.gateways();
    rig.kernel.ready();
    rig.registry_has(&["px-lb-3"]);
    rig.after(HOUR).await;
    let observed = rig.linux.observed(&Ours::default());
    assert!(rig.carries().await.0.contains(&"tap-1".to_owned()));
    assert!(
        !observed.rules.iter().any(|rule| rule.input.as_ref().is_some_and(|link| link.as_str() == "tap-1")),
        "{:?}",
        observed.rules
    );
    rig.tasks.stop().await;
}
