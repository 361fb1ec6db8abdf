// SPDX-License-Identifier: Apache-2.0

//! Tests the announcer beside a reconciler, over the kernel in memory, under paused time.

use super::*;
use crate::{
    api::Dual,
    kernel::{Degraded, Ends, Kernel, Memory, PeerId, PortGuard, Settings},
    task::Tasks,
};

const TARGET: &str = "172.16.1.9";
const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const ANOTHER: Mac = Mac([2, 0, 0, 0, 0, 10]);

struct Rig {
    tasks: Tasks,
    linux: Memory,
    kernel: Kernel,
}

impl Rig {
    fn new(linux: Memory) -> Self {
        let tasks = Tasks::default();
        let settings = Settings { announce: true, ..Settings::of("trench", "conduit", "node") };
        let kernel = Kernel::start(settings, linux.clone(), &tasks);
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
        Self { tasks, linux, kernel }
    }

    /// Declares a target with an existing link.
    fn target(&self, link: &str, address: &str) -> PortGuard {
        self.linux.add_link(link, None);
        let ends = Ends { near: [].into(), far: [ip(address)].into() };
        self.kernel.port(&PeerId::target(link), link.parse().unwrap(), ends)
    }

    /// Declares a load balancer with an existing link.
    fn balancer(&self, link: &str) -> PortGuard {
        self.linux.add_link(link, None);
        self.kernel.port(&PeerId::load_balancer(link), link.parse().unwrap(), Ends::default())
    }

    /// The MAC addresses announced for an address in the next five seconds.
    async fn announced(&self, address: &str) -> Vec<Mac> {
        let before = self.linux.announced().len();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let all = self.linux.announced();
        all[before..].iter().filter(|(it, _)| *it == ip(address)).map(|(_, mac)| *mac).collect()
    }

    async fn end(self) {
        drop(self.kernel);
        self.tasks.stop().await;
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_target_is_announced_five_times_when_its_link_is_a_port() {
    let rig = Rig::new(Memory::default());
    rig.linux.set_mac(ip(TARGET), MAC);
    let _port = rig.target("nsm-1", TARGET);
    assert_eq!(rig.announced(TARGET).await, [MAC; 5]);
    assert_eq!(rig.announced(TARGET).await, [], "only once");
    assert_eq!(rig.kernel.work().announcements(), rig.linux.announced().len() as u64);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_link_is_made_again_is_announced_again() {
    let rig = Rig::new(Memory::default());
    rig.linux.set_mac(ip(TARGET), MAC);
    let _port = rig.target("nsm-1", TARGET);
    assert_eq!(rig.announced(TARGET).await, [MAC; 5]);
    rig.linux.remove_link("nsm-1");
    rig.linux.set_mac(ip(TARGET), ANOTHER);
    rig.linux.add_link("nsm-1", None);
    assert_eq!(rig.announced(TARGET).await, [ANOTHER; 5]);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_on_a_second_link_is_announced_again() {
    let rig = Rig::new(Memory::default());
    rig.linux.set_mac(ip(TARGET), MAC);
    let first = rig.target("nsm-1", TARGET);
    assert_eq!(rig.announced(TARGET).await, [MAC; 5]);
    rig.linux.set_mac(ip(TARGET), ANOTHER);
    let _second = rig.target("nsm-2", TARGET);
    assert_eq!(rig.announced(TARGET).await, [ANOTHER; 5]);
    drop(first);
    assert_eq!(rig.announced(TARGET).await, [ANOTHER; 5], "the former link may have answered for it");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_is_not_announced_before_it_answers() {
    let rig = Rig::new(Memory::default());
    rig.linux.set_silent(ip(TARGET), true);
    let port = rig.target("nsm-1", TARGET);
    assert_eq!(rig.announced(TARGET).await, []);
    rig.linux.set_silent(ip(TARGET), false);
    assert_eq!(rig.announced(TARGET).await.len(), 5);
    rig.linux.set_silent(ip(TARGET), true);
    rig.linux.remove_link("nsm-1");
    rig.linux.add_link("nsm-1", None);
    rig.announced(TARGET).await;
    drop(port);
    rig.kernel.settled().await;
    rig.linux.set_silent(ip(TARGET), false);
    assert_eq!(rig.announced(TARGET).await, [], "its connection is closed");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_targets_are_announced_once_when_a_load_balancer_joins() {
    let rig = Rig::new(Memory::default());
    rig.linux.set_mac(ip(TARGET), MAC);
    let _target = rig.target("nsm-1", TARGET);
    assert_eq!(rig.announced(TARGET).await, [MAC; 5]);
    let _balancer = rig.balancer("lb-1");
    assert_eq!(rig.announced(TARGET).await, [MAC]);
    rig.linux.remove_link("lb-1");
    assert_eq!(rig.announced(TARGET).await, []);
    rig.linux.add_link("lb-1", None);
    assert_eq!(rig.announced(TARGET).await, [MAC], "its link was made again");
    let _another = rig.balancer("lb-2");
    assert_eq!(rig.announced(TARGET).await, [MAC], "another load balancer");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_known_is_asked_for_a_load_balancer() {
    let rig = Rig::new(Memory::default());
    rig.linux.set_mac(ip(TARGET), MAC);
    let _target = rig.target("nsm-1", TARGET);
    rig.announced(TARGET).await;
    rig.linux.forget_neighbours();
    let _balancer = rig.balancer("lb-1");
    assert_eq!(rig.announced(TARGET).await, [MAC]);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flapping_load_balancer_hears_the_targets_once_a_second() {
    let rig = Rig::new(Memory::default());
    let _target = rig.target("nsm-1", TARGET);
    rig.announced(TARGET).await;
    let _balancer = rig.balancer("lb-1");
    let before = rig.linux.announced().len();
    for _ in 0..50 {
        tokio::time::sleep(ROUND / 2).await;
        rig.linux.remove_link("lb-1");
        tokio::time::sleep(ROUND / 2).await;
        rig.linux.add_link("lb-1", None);
    }
    let frames = rig.linux.announced().len() - before;
    assert!((4..=6).contains(&frames), "{frames} frames in five seconds");
    assert!(!rig.announced(TARGET).await.is_empty(), "it hears them when it stays");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn announcements_are_limited_in_rate_and_none_is_lost() {
    let rig = Rig::new(Memory::default());
    let targets: Vec<_> = (10..=250).map(|n| format!("172.16.1.{n}")).collect();
    let _ports: Vec<_> =
        targets.iter().enumerate().map(|(n, address)| rig.target(&format!("nsm-{n}"), address)).collect();
    rig.kernel.settled().await;
    let mut before = 0;
    for _ in 0..100 {
        tokio::time::sleep(ROUND).await;
        let sent = rig.linux.announced().len();
        assert!(sent - before <= 2 * MAX_FRAMES, "{} frames in a round", sent - before);
        before = sent;
    }
    for address in &targets {
        let sent = rig.linux.announced().iter().filter(|(it, _)| *it == ip(address)).count();
        assert_eq!(sent, 5, "{address}");
    }
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_mac_address_of_the_bridge_announces_the_gateway() {
    let rig = Rig::new(Memory::default());
    let derived = Mac::derive(&["trench", "conduit", "node"]);
    assert_eq!(rig.announced("172.16.1.1").await, [derived; 5]);
    let bridge = "bridge0".parse().unwrap();
    rig.linux.change(|world| world.links.get_mut(&bridge).unwrap().mac = Some(ANOTHER));
    assert_eq!(rig.announced("172.16.1.1").await, [ANOTHER; 5]);
    rig.kernel.set_gateways(Dual { v4: "172.16.2.1/24".parse().ok(), v6: None });
    assert_eq!(rig.announced("172.16.2.1").await, [ANOTHER; 5]);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_net_raw_only_announcements_are_missing() {
    let linux = Memory::default();
    linux.forbid_announcements();
    let rig = Rig::new(linux);
    let _port = rig.target("nsm-1", TARGET);
    assert_eq!(rig.announced(TARGET).await, []);
    let status = rig.kernel.status().borrow().clone();
    assert!(status.ports.contains(&"nsm-1".parse().unwrap()));
    assert_eq!(status.degraded, [Degraded::NotAnnounced("permission denied".into())]);
    let faults = status.faults();
    assert!(faults.egress.is_empty() && faults.targets[0].contains("CAP_NET_RAW"), "{faults:?}");
    rig.end().await;
}
