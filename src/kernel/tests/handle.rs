// SPDX-License-Identifier: Apache-2.0

//! Tests the handle over the kernel in memory, under paused time.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::balancer::{Balancer, in_memory};

use crate::{
    api::{Dual, Family, InterfaceName},
    kernel::{
        Attachment, Degraded, Ends, Kernel, LinkKind, Memory, Op, Ours, PeerId, Settings, Status, Withheld,
        WrongSysctl,
    },
    task::Tasks,
};

struct Rig {
    tasks: Tasks,
    linux: Memory,
    kernel: Kernel,
}

fn rig() -> Rig {
    over(Memory::default())
}

fn over(linux: Memory) -> Rig {
    let tasks = Tasks::default();
    let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
    Rig { tasks, linux, kernel }
}

impl Rig {
    /// Gateways, one VIP and one load balancer.
    async fn working() -> (Self, Balancer) {
        let rig = rig();
        rig.kernel.set_gateways(gateways());
        rig.kernel.set_vips(&["20.0.0.1/32".parse().unwrap()]);
        let balancer = in_memory(&rig.linux, &rig.kernel, "lb-1", &["172.16.1.2"]);
        rig.kernel.settled().await;
        (rig, balancer)
    }

    fn status(&self) -> Status {
        self.kernel.status().borrow().clone()
    }

    fn rules(&self) -> Vec<String> {
        self.linux.observed(&Ours::default()).rules.iter().map(ToString::to_string).collect()
    }

    /// Waits for a status under paused time.
    async fn until(&self, what: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.kernel.status();
        let found = tokio::time::timeout(Duration::from_secs(300), status.wait_for(what)).await;
        match found {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("not reached: {:?}", self.status()),
        }
    }

    async fn end(self) {
        drop(self.kernel);
        self.tasks.stop().await;
        assert!(self.tasks.is_empty());
    }
}

fn gateways() -> Dual<ipnet::IpNet> {
    Dual { v4: Some("172.16.1.1/24".parse().unwrap()), v6: Some("fd00::1/64".parse().unwrap()) }
}

fn name(name: &str) -> InterfaceName {
    name.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn before_anything_is_known_only_the_leak_stop_is_in() {
    let rig = rig();
    rig.kernel.settled().await;
    assert!(rig.status().leak_stop);
    assert_eq!(
        rig.rules(),
        ["32765: from all (IPv4) iif bridge0 blackhole", "32765: from all (IPv6) iif bridge0 blackhole"]
    );
    let made = rig.linux.made();
    assert!(matches!(made[0], Op::AddRule(_)), "the rules stand before the bridge does: {made:?}");
    assert!(matches!(made[2], Op::CreateBridge(_)), "{made:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_appears_after_its_claim_becomes_a_port() {
    let (rig, _hop) = Rig::working().await;
    let port = rig.kernel.port(&PeerId::target("target-1"), name("nsm-1"), Ends::default());
    rig.kernel.settled().await;
    assert_eq!(rig.status().pending, [name("nsm-1")].into());
    assert!(rig.rules().iter().any(|rule| rule.contains("iif nsm-1 blackhole")), "{:?}", rig.rules());
    rig.linux.add_link("nsm-1", None);
    rig.until(|status| status.ports.contains(&name("nsm-1")) && status.pending.is_empty()).await;
    drop(port);
    rig.until(|status| !status.ports.contains(&name("nsm-1"))).await;
    assert!(rig.rules().iter().any(|rule| rule.contains("iif nsm-1 blackhole")), "{:?}", rig.rules());
    let gone = Instant::now();
    rig.linux.remove_link("nsm-1");
    rig.until(|_| !rig.rules().iter().any(|rule| rule.contains("nsm-1"))).await;
    assert!(gone.elapsed() < Duration::from_secs(1), "a link that has been there is not waited for");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn leak_stops_of_links_that_never_appear_are_bounded() {
    let (rig, _hop) = Rig::working().await;
    let before = rig.rules().len();
    for number in 0..1000 {
        drop(rig.kernel.port(&PeerId::target("target"), name(&format!("nsm-{number}")), Ends::default()));
    }
    rig.kernel.settled().await;
    let stops = rig.rules().len() - before;
    assert!((2..=2 * 128).contains(&stops), "{stops} rules");
    assert!(rig.rules().iter().any(|rule| rule.contains("iif nsm-999 ")), "the newest is waited for");
    advance(Duration::from_secs(61)).await;
    rig.until(|_| rig.rules().len() == before).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn l02_a_port_that_was_refused_is_tried_again() {
    let (rig, _hop) = Rig::working().await;
    rig.linux.add_link("nsm-1", None);
    rig.kernel.settled().await;
    for skip in 0..12 {
        rig.linux.refuse(skip, 16);
    }
    let _port = rig.kernel.port(&PeerId::target("target-1"), name("nsm-1"), Ends::default());
    rig.kernel.settled().await;
    let refused = rig.status();
    assert!(refused.pending.contains(&name("nsm-1")) && !refused.failures.is_empty(), "{refused:?}");
    assert!(refused.degraded.contains(&Degraded::Failing));
    let whole = rig.until(|status| status.ports.contains(&name("nsm-1"))).await;
    assert_eq!((whole.failures, whole.degraded), (vec![], vec![]));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn two_guards_for_one_next_hop_count_as_one() {
    let (rig, Balancer { port: _port, next_hops: first }) = Rig::working().await;
    let lb = PeerId::load_balancer("lb-1");
    let second = rig.kernel.next_hop(&lb, "172.16.1.2".parse().unwrap());
    let before = rig.linux.made().len();
    drop(first);
    rig.kernel.settled().await;
    assert_eq!(rig.linux.made().len(), before, "a refresh changes nothing");
    drop(second);
    rig.kernel.settled().await;
    assert_eq!(rig.linux.made().last(), Some(&Op::DeleteRoute(Family::V4, 0)));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_next_hop_of_a_new_link_is_resolved_again() {
    let (rig, _hop) = Rig::working().await;
    let again: std::net::IpAddr = "172.16.1.4".parse().unwrap();
    let _claims = super::balancer::declare(&rig.kernel, "nsm-4", &["172.16.1.4"]);
    let forgotten = |since: usize| {
        let made = rig.linux.made().split_off(since);
        Vec::from_iter(made.into_iter().filter(|op| matches!(op, Op::ForgetNeighbour(_))))
    };
    let first = rig.linux.add_link("nsm-4", None);
    rig.until(|status| status.ports.contains(&name("nsm-4"))).await;
    for gone_for_a_while in [true, false] {
        let before = rig.linux.made().len();
        rig.linux.remove_link("nsm-4");
        if gone_for_a_while {
            rig.until(|status| status.pending.contains(&name("nsm-4"))).await;
        }
        assert!(rig.linux.add_link("nsm-4", None) > first);
        rig.until(|_| !forgotten(before).is_empty()).await;
        rig.kernel.settled().await;
        assert_eq!(forgotten(before), [Op::ForgetNeighbour(again)]);
        let made = rig.linux.made().split_off(before);
        let attached = made.iter().position(|op| matches!(op, Op::Attach(..)));
        assert!(attached < made.iter().position(|op| *op == Op::ForgetNeighbour(again)), "{made:?}");
    }
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_that_no_gateway_reaches_does_not_spoil_the_others() {
    let (rig, _hop) = Rig::working().await;
    let declare = |link: &str, address: &str| in_memory(&rig.linux, &rig.kernel, link, &[address]);
    let _good = declare("lb-2", "172.16.1.4");
    let table = [
        ("lb-3", "10.9.9.9", Withheld::OffLink),
        ("lb-4", "172.16.1.1", Withheld::Own),
        ("lb-5", "172.16.1.255", Withheld::NoHost),
        ("lb-6", "172.16.1.0", Withheld::NoHost),
        ("lb-7", "fd00::", Withheld::NoHost),
    ];
    let _bad = table.clone().map(|(link, address, _)| declare(link, address));
    rig.kernel.settled().await;
    let status = rig.status();
    assert!(["172.16.1.2", "172.16.1.4"].iter().all(|hop| status.has_next_hop(hop.parse().unwrap())));
    let expected = table.map(|(link, address, why)| {
        Degraded::Withheld(PeerId::load_balancer(link), address.parse().unwrap(), why)
    });
    assert_eq!(status.degraded, expected);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_vip_list_is_held_and_said_aloud() {
    let (rig, _hop) = Rig::working().await;
    let vip = "30000: from 20.0.0.1/32 iif bridge0 lookup 1".to_owned();
    assert!(rig.rules().contains(&vip), "{:?}", rig.rules());
    rig.kernel.set_vips(&[]);
    rig.kernel.settled().await;
    assert!(rig.rules().contains(&vip));
    assert!(rig.status().degraded.contains(&Degraded::VipsHeld));
    rig.until(|status| !status.degraded.contains(&Degraded::VipsHeld)).await;
    assert!(!rig.rules().contains(&vip));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_way_out_of_the_pod_is_never_made_a_port() {
    let (rig, _hop) = Rig::working().await;
    rig.linux.add_link("eth0", None);
    rig.linux.change(|world| {
        world.links.entry(name("eth0")).and_modify(|link| link.kind = LinkKind::Primary);
    });
    let _port = rig.kernel.port(&PeerId::target("a connection that names it"), name("eth0"), Ends::default());
    let _bridge =
        rig.kernel.port(&PeerId::target("a connection that names it"), name("bridge0"), Ends::default());
    rig.kernel.settled().await;
    let status = rig.status();
    let peer = PeerId::target("a connection that names it");
    assert_eq!(
        status.degraded,
        ["bridge0", "eth0"].map(|link| Degraded::Unattached(peer.clone(), name(link), Attachment::Foreign))
    );
    assert!(
        status.ports == [name("lb-1")].into() && !rig.rules().iter().any(|rule| rule.contains("iif eth0"))
    );
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_take_away_comes_back() {
    let (rig, _hop) = Rig::working().await;
    let whole = rig.linux.observed(&Ours::default());
    rig.linux.change(|world| world.rules.clear());
    let status = rig.until(|status| status.drift > 0).await;
    assert!(status.reverted.iter().any(|change| change.starts_with("add rule ")), "{:?}", status.reverted);
    rig.linux.change(|world| world.set_down(&name("bridge0")));
    rig.until(|_| rig.linux.observed(&Ours::default()).links == whole.links).await;
    rig.linux.remove_link("bridge0");
    let status =
        rig.until(|status| status.passes > 0 && rig.linux.observed(&Ours::default()).links.len() == 2).await;
    assert!(status.leak_stop, "{status:?}");
    rig.until(|status| status.has_next_hop("172.16.1.2".parse().unwrap())).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn addresses_that_others_remove_are_named() {
    let (rig, _hop) = Rig::working().await;
    rig.linux.change(|world| {
        world.addresses.clear();
        world.routes.clear();
    });
    let status = rig.until(|status| !status.reverted.is_empty()).await;
    assert_eq!(status.reverted[0], "add address 172.16.1.1/24 to the bridge");
    rig.until(|status| status.has_next_hop("172.16.1.2".parse().unwrap())).await;
    let drifts = rig.status().drifts;
    rig.kernel.set_gateways(Dual { v4: "172.17.0.1/24".parse().ok(), v6: None });
    rig.until(|status| status.addresses.contains(&"172.17.0.1/24".parse().unwrap())).await;
    assert_eq!(rig.status().drifts, drifts, "the own changes are no drift");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_ports_leaves_nothing() {
    let (rig, balancer) = Rig::working().await;
    rig.linux.remove_link("lb-1");
    rig.kernel.settled().await;
    let Rig { tasks, linux, kernel } = rig;
    kernel.stop(Instant::now() + Duration::from_secs(5)).await;
    let left = linux.observed(&Ours::default());
    assert_eq!((left.links.len(), left.routes.len(), left.rules.len()), (0, 0, 0), "{left:?}");
    assert!(matches!(linux.made().last(), Some(Op::DeleteRule(rule)) if rule.priority == 32_765));
    drop(balancer);
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_a_port_left_leaves_the_leak_stop() {
    let (rig, _hop) = Rig::working().await;
    rig.linux.add_link("nsm-1", None);
    let _port = rig.kernel.port(&PeerId::target("target-1"), name("nsm-1"), Ends::default());
    rig.kernel.settled().await;
    let Rig { tasks, linux, kernel } = rig;
    let status = kernel.status();
    kernel.stop(Instant::now() + Duration::from_secs(5)).await;
    let left = linux.observed(&Ours::default());
    assert!(
        left.rules.iter().all(|rule| rule.priority == 32_765) && left.rules.len() == 6,
        "{:?}",
        left.rules
    );
    assert_eq!(
        left.ports_of(left.bridge(&Ours::default()).unwrap().index).map(|(name, _)| name).collect::<Vec<_>>(),
        [&name("lb-1"), &name("nsm-1")],
        "ingress goes on"
    );
    assert_eq!(left.next_hops(Family::V4).count(), 0);
    assert!(status.borrow().degraded.contains(&Degraded::LeftForSuccessor));
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_refuses_everything_is_reported_and_tried_again() {
    let linux = Memory::default();
    linux.refuse_all(Some(1));
    let rig = over(linux);
    rig.kernel.settled().await;
    let status = rig.status();
    assert!(!status.leak_stop && status.degraded.contains(&Degraded::Failing), "{status:?}");
    assert!(status.failures[0].to_string().contains("Operation not permitted"), "{}", status.failures[0]);
    rig.linux.refuse_all(None);
    rig.until(|status| status.leak_stop && status.degraded.is_empty()).await;
    rig.linux.refuse_dumps(Some(105));
    let _port = rig.kernel.port(&PeerId::target("target-1"), name("nsm-1"), Ends::default());
    rig.until(|status| status.degraded.contains(&Degraded::Failing)).await;
    rig.linux.refuse_dumps(None);
    rig.until(|status| !status.degraded.contains(&Degraded::Failing)).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_kernel_is_read_now_and_then_and_not_written() {
    let (rig, _hop) = Rig::working().await;
    rig.linux.add_link("nsm-1", None);
    drop(rig.kernel.port(
        &PeerId::target("a connection whose link nobody removes"),
        name("nsm-1"),
        Ends::default(),
    ));
    rig.kernel.settled().await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let before = rig.status();
    tokio::time::sleep(Duration::from_secs(900)).await;
    let after = rig.status();
    assert!((8..=13).contains(&(after.passes - before.passes)), "{} passes", after.passes - before.passes);
    assert_eq!(after.writes, before.writes);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_sysctl_is_found_at_a_resync_and_its_end_soon() {
    let (rig, _balancer) = Rig::working().await;
    let sysctl = WrongSysctl {
        family: Family::V4,
        key: "net.ipv4.conf.all.forwarding".into(),
        value: Ok("0".into()),
        needed: "1",
        breaks: "everything",
        stops: true,
    };
    rig.linux.set_wrong_sysctls(vec![sysctl.clone()]);
    let start = Instant::now();
    rig.until(|status| status.degraded == [Degraded::Sysctl(sysctl.clone())]).await;
    assert!(start.elapsed() < Duration::from_secs(100), "a resync is every 90 s");
    rig.linux.set_wrong_sysctls(vec![]);
    let right = Instant::now();
    rig.until(|status| status.degraded.is_empty()).await;
    assert!(right.elapsed() < Duration::from_secs(11), "it is looked for every 10 s");
    rig.end().await;
}
