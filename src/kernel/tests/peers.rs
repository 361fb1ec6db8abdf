// SPDX-License-Identifier: Apache-2.0

//! Tests which next hops follow from the records of connections, over the kernel in memory.

use std::{net::IpAddr, time::Duration};

use super::{
    balancer::{Balancer, declare, in_memory},
    netns::name,
};
use crate::{
    api::{Dual, Family},
    kernel::{Attachment, Degraded, Ends, Kernel, Memory, Op, PeerId, Settings, Status, Withheld},
    task::Tasks,
};

struct Rig {
    tasks: Tasks,
    linux: Memory,
    kernel: Kernel,
}

/// One gateway of IPv4, and one VIP.
fn rig() -> Rig {
    let tasks = Tasks::default();
    let linux = Memory::default();
    let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
    kernel.set_gateways(gateway("172.16.1.1/24"));
    kernel.set_vips(&["20.0.0.1/32".parse().unwrap()]);
    Rig { tasks, linux, kernel }
}

fn gateway(net: &str) -> Dual<ipnet::IpNet> {
    Dual { v4: net.parse().ok(), v6: None }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Rig {
    /// The rig with two load balancers, `lb-1` and `lb-2`, at 172.16.1.2 and 172.16.1.4.
    async fn balanced() -> (Self, [Balancer; 2]) {
        let rig = rig();
        let both = [rig.balancer("lb-1", "172.16.1.2"), rig.balancer("lb-2", "172.16.1.4")];
        rig.installed(&["172.16.1.2", "172.16.1.4"]).await;
        (rig, both)
    }

    fn balancer(&self, link: &str, hop: &str) -> Balancer {
        in_memory(&self.linux, &self.kernel, link, &[hop])
    }

    /// Waits for a status under paused time.
    async fn until(&self, fits: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.kernel.status();
        let found = tokio::time::timeout(Duration::from_secs(300), status.wait_for(fits)).await;
        found.unwrap_or_else(|_| panic!("still {:?}", self.kernel.status().borrow().clone())).unwrap().clone()
    }

    /// Waits until these are the next hops, and no pass is under way.
    async fn installed(&self, hops: &[&str]) -> Status {
        let expected = Some(hops.iter().map(|hop| address(hop)).collect());
        self.until(|status| status.next_hops.v4 == expected).await;
        self.kernel.settled().await;
        self.kernel.status().borrow().clone()
    }

    async fn end(self) {
        self.tasks.stop().await;
    }
}

fn withheld(lb: &str, hop: &str, why: Withheld) -> Degraded {
    Degraded::Withheld(PeerId::load_balancer(lb), address(hop), why)
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_goes_with_its_link_and_returns_with_it() {
    let (rig, _both) = Rig::balanced().await;
    rig.linux.remove_link("lb-1");
    let passes = rig.kernel.status().borrow().passes;
    let status = rig.installed(&["172.16.1.4"]).await;
    assert!(status.passes <= passes + 1, "in the pass of the event");
    let missing = Withheld::Link(name("lb-1"), Attachment::Missing);
    assert_eq!(status.degraded, [withheld("lb-1", "172.16.1.2", missing)]);
    rig.linux.add_link("lb-1", None);
    assert_eq!(rig.installed(&["172.16.1.2", "172.16.1.4"]).await.degraded, []);

    rig.linux.change(|world| world.set_running(&name("lb-2"), false));
    let status = rig.installed(&["172.16.1.2"]).await;
    let down = Withheld::Link(name("lb-2"), Attachment::Down);
    assert_eq!(status.degraded, [withheld("lb-2", "172.16.1.4", down)]);
    assert!(status.ports.contains(&name("lb-2")), "it stays a port");
    rig.linux.change(|world| world.set_running(&name("lb-2"), true));
    assert_eq!(rig.installed(&["172.16.1.2", "172.16.1.4"]).await.degraded, []);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_refused_leaves_no_next_hop_behind() {
    const EXFULL: i32 = 54;
    let (rig, _both) = Rig::balanced().await;
    rig.linux.add_link("lb-3", None);
    rig.kernel.settled().await;
    rig.linux.change(|world| world.most_ports = Some(2));
    let _third = declare(&rig.kernel, "lb-3", &["172.16.1.6"]);
    rig.kernel.settled().await;
    let status = rig.until(|status| status.degraded.contains(&Degraded::Failing)).await;
    let detached = Withheld::Link(name("lb-3"), Attachment::Detached);
    assert!(status.degraded.contains(&withheld("lb-3", "172.16.1.6", detached)), "{status:?}");
    assert_eq!(status.failures.len(), 1, "{status:?}");
    assert_eq!(status.failures[0].refusal.errno, EXFULL);
    assert!(matches!(status.failures[0].op, Some(Op::Attach(..))), "{status:?}");
    assert!(!status.has_next_hop(address("172.16.1.6")) && status.has_next_hop(address("172.16.1.2")));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_does_not_appear_in_ten_seconds_is_named() {
    let (rig, _both) = Rig::balanced().await;
    let _third = declare(&rig.kernel, "lb-3", &["172.16.1.6"]);
    let _target = rig.kernel.port(&PeerId::target("target-1"), name("nsm-1"), Ends::default());
    rig.kernel.settled().await;
    let missing = withheld("lb-3", "172.16.1.6", Withheld::Link(name("lb-3"), Attachment::Missing));
    assert_eq!(rig.kernel.status().borrow().degraded, std::slice::from_ref(&missing));
    let start = tokio::time::Instant::now();
    let status = rig.until(|status| status.degraded.len() > 1).await;
    assert!((10..11).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let late = |peer, link| Degraded::Unattached(peer, name(link), Attachment::Missing);
    let named =
        [late(PeerId::load_balancer("lb-3"), "lb-3"), missing, late(PeerId::target("target-1"), "nsm-1")];
    assert_eq!(status.degraded, named);
    rig.linux.add_link("lb-3", None);
    rig.linux.add_link("nsm-1", None);
    rig.until(|status| status.degraded.is_empty()).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_that_the_kernel_refuses_keeps_no_other_out() {
    let (rig, _both) = Rig::balanced().await;
    rig.linux.change(|world| world.invalid_hops = [address("172.16.1.7"), address("172.16.1.9")].into());
    let _more = [("lb-7", "172.16.1.7"), ("lb-8", "172.16.1.8"), ("lb-9", "172.16.1.9")]
        .map(|(link, hop)| rig.balancer(link, hop));
    let status = rig.installed(&["172.16.1.2", "172.16.1.4", "172.16.1.8"]).await;
    assert_eq!(status.failures, []);
    let refused = |lb, hop| withheld(lb, hop, Withheld::Refused("Invalid argument (os error 22)".into()));
    assert_eq!(status.degraded, [refused("lb-7", "172.16.1.7"), refused("lb-9", "172.16.1.9")]);
    let both = [address("172.16.1.2"), address("172.16.1.4")];
    let kept = |op: &Op| match op {
        Op::SetNextHops(_, hops) if hops.len() > 1 => both.iter().all(|hop| hops.contains(hop)),
        _ => true,
    };
    assert!(rig.linux.made().iter().all(kept), "those that work stay in meanwhile: {:?}", rig.linux.made());
    rig.linux.change(|world| world.invalid_hops.clear());
    rig.installed(&["172.16.1.2", "172.16.1.4", "172.16.1.7", "172.16.1.8", "172.16.1.9"]).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_that_does_not_answer_is_left_out_unless_none_does() {
    let (rig, _both) = Rig::balanced().await;
    rig.kernel.set_answers(address("172.16.1.4"), false);
    let status = rig.installed(&["172.16.1.2"]).await;
    assert_eq!(status.degraded, [withheld("lb-2", "172.16.1.4", Withheld::Silent)]);
    rig.kernel.set_answers(address("172.16.1.2"), false);
    rig.kernel.settled().await;
    let status = rig.installed(&["172.16.1.2"]).await;
    assert!(status.degraded.contains(&Degraded::NoneAnswers(Family::V4)), "{status:?}");
    rig.kernel.set_answers(address("172.16.1.4"), true);
    rig.installed(&["172.16.1.4"]).await;
    rig.kernel.set_answers(address("172.16.1.2"), true);
    assert_eq!(rig.installed(&["172.16.1.2", "172.16.1.4"]).await.degraded, []);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_in_doubt_is_left_out_while_others_answer() {
    let (rig, _both) = Rig::balanced().await;
    let [first, second] = ["lb-1", "lb-2"].map(PeerId::load_balancer);
    let doubt = rig.kernel.doubt(&second);
    let again = rig.kernel.doubt(&second);
    let status = rig.installed(&["172.16.1.2"]).await;
    assert_eq!(status.degraded, [withheld("lb-2", "172.16.1.4", Withheld::Doubted)]);
    drop(again);
    rig.kernel.settled().await;
    rig.installed(&["172.16.1.2"]).await;
    rig.kernel.set_answers(address("172.16.1.2"), false);
    rig.installed(&["172.16.1.4"]).await;
    rig.kernel.set_answers(address("172.16.1.2"), true);
    rig.installed(&["172.16.1.2"]).await;
    let all = rig.kernel.doubt(&first);
    assert_eq!(rig.installed(&["172.16.1.2", "172.16.1.4"]).await.degraded, [], "all are in doubt");
    drop(doubt);
    rig.installed(&["172.16.1.4"]).await;
    drop(all);
    rig.installed(&["172.16.1.2", "172.16.1.4"]).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_of_two_load_balancers_stays_for_either() {
    let (rig, [_first, second]) = Rig::balanced().await;
    let third = rig.balancer("lb-3", "172.16.1.4");
    rig.kernel.settled().await;
    let doubt = rig.kernel.doubt(&PeerId::load_balancer("lb-2"));
    rig.kernel.settled().await;
    assert_eq!(rig.installed(&["172.16.1.2", "172.16.1.4"]).await.degraded, [], "lb-3 is not in doubt");
    drop((doubt, second));
    rig.kernel.settled().await;
    rig.installed(&["172.16.1.2", "172.16.1.4"]).await;
    drop(third);
    rig.installed(&["172.16.1.2"]).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_without_a_link_is_never_installed() {
    let (rig, _both) = Rig::balanced().await;
    let _hop = rig.kernel.next_hop(&PeerId::load_balancer("lb-3"), address("172.16.1.6"));
    rig.kernel.settled().await;
    let status = rig.installed(&["172.16.1.2", "172.16.1.4"]).await;
    assert_eq!(status.degraded, [withheld("lb-3", "172.16.1.6", Withheld::NoLink)]);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_former_gateway_stays_while_a_connection_lies_in_it() {
    let (rig, [first, second]) = Rig::balanced().await;
    let ends = Ends { near: [].into(), far: [address("172.16.1.9")].into() };
    rig.linux.add_link("nsm-1", None);
    let target = rig.kernel.port(&PeerId::target("target-1"), name("nsm-1"), ends);
    drop(second);
    rig.kernel.set_gateways(gateway("172.16.2.1/24"));
    tokio::time::sleep(Duration::from_secs(600)).await;
    rig.installed(&["172.16.1.2"]).await;
    let _moved = rig.balancer("lb-1", "172.16.2.2");
    drop(first);
    tokio::time::sleep(Duration::from_secs(600)).await;
    rig.installed(&["172.16.2.2"]).await;
    let nets = || rig.linux.observed(&Default::default()).addresses;
    assert_eq!(nets().len(), 2, "a target lies in it");
    drop(target);
    rig.kernel.settled().await;
    assert_eq!(nets(), ["172.16.2.1/24".parse().unwrap()].into());
    rig.end().await;
}
