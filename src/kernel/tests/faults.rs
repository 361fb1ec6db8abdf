// SPDX-License-Identifier: Apache-2.0

//! Tests each change refused once, and each change refused always, over the kernel in memory.

use std::time::Duration;

use tokio::time::Instant;

use super::balancer::{self, Balancer};
use crate::{
    api::Dual,
    kernel::{Ends, Kernel, Memory, Observed, Ours, PeerId, PortGuard, Settings, Status},
    task::Tasks,
};

struct Declared {
    _balancer: Balancer,
    _target: PortGuard,
}

fn declare(kernel: &Kernel) -> Declared {
    kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() });
    kernel.set_vips(&(0..20).map(|i| format!("20.0.{i}.1/32").parse().unwrap()).collect::<Vec<_>>());
    Declared {
        _balancer: balancer::declare(kernel, "lb-1", &["172.16.1.2", "fd00::2"]),
        _target: kernel.port(&PeerId::target("target-1"), "target-1".parse().unwrap(), Ends::default()),
    }
}

fn linux() -> Memory {
    let linux = Memory::default();
    linux.add_link("lb-1", Some("server-lb-1"));
    linux.add_link("target-1", None);
    linux
}

fn observed(linux: &Memory) -> Observed {
    let mut observed = linux.observed(&Ours::default());
    observed.routes.sort();
    observed.rules.sort();
    observed
}

/// Waits until a pass ends without a fault.
async fn whole(kernel: &Kernel) -> Status {
    kernel.settled().await;
    let mut status = kernel.status();
    let found = tokio::time::timeout(
        Duration::from_secs(60),
        status.wait_for(|status| status.vips && status.ports.len() == 2 && status.degraded.is_empty()),
    )
    .await;
    found.unwrap_or_else(|_| panic!("still {:?}", kernel.status().borrow().clone())).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn whichever_change_fails_once_the_state_becomes_whole() {
    let tasks = Tasks::default();
    let reference = linux();
    let kernel = Kernel::start(Settings::of("t", "c", "n"), reference.clone(), &tasks);
    let _declared = declare(&kernel);
    whole(&kernel).await;
    let changes = reference.made().len() as u64;
    assert!(changes > 40, "{changes}");
    for failing in 0..changes {
        let linux = linux();
        linux.refuse(failing, 105);
        let kernel = Kernel::start(Settings::of("t", "c", "n"), linux.clone(), &tasks);
        let _declared = declare(&kernel);
        let status = whole(&kernel).await;
        assert_eq!(observed(&linux), observed(&reference), "change {failing}");
        assert_eq!(status.failures, []);
    }
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whichever_change_fails_once_a_stop_leaves_nothing() {
    let tasks = Tasks::default();
    for failing in 0.. {
        let linux = linux();
        let kernel = Kernel::start(Settings::of("t", "c", "n"), linux.clone(), &tasks);
        let declared = declare(&kernel);
        whole(&kernel).await;
        linux.remove_link("lb-1");
        linux.remove_link("target-1");
        drop(declared);
        kernel.settled().await;
        let before = linux.made().len() as u64;
        linux.refuse(failing, 105);
        kernel.stop(Instant::now() + Duration::from_secs(60)).await;
        let left = observed(&linux);
        assert_eq!(
            (left.links.len(), left.routes.len(), left.rules.len()),
            (0, 0, 0),
            "change {failing}: {left:?}"
        );
        if failing >= linux.made().len() as u64 - before {
            assert!(failing > 20, "{failing}");
            break;
        }
    }
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_at_its_deadline_if_the_kernel_refuses_everything() {
    let tasks = Tasks::default();
    let linux = linux();
    let kernel = Kernel::start(Settings::of("t", "c", "n"), linux.clone(), &tasks);
    let _declared = declare(&kernel);
    whole(&kernel).await;
    linux.refuse_all(Some(1));
    let deadline = Instant::now() + Duration::from_secs(3);
    kernel.stop(deadline).await;
    assert!(Instant::now() < deadline + Duration::from_secs(1));
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_change_stops_no_other_and_is_retried_with_backoff() {
    let tasks = Tasks::default();
    let linux = linux();
    let kernel = Kernel::start(Settings::of("t", "c", "n"), linux.clone(), &tasks);
    let _declared = declare(&kernel);
    whole(&kernel).await;
    linux.refuse_all(Some(1));
    let _hop = kernel.next_hop(&PeerId::load_balancer("lb-1"), "172.16.1.4".parse().unwrap());
    kernel.settled().await;
    let left = kernel.status().borrow().left.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(left, ["set IPv4 next hops 172.16.1.2 172.16.1.4"]);
    let first = kernel.status().borrow().passes;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let passes = kernel.status().borrow().passes - first;
    assert!((50..90).contains(&passes), "{passes} passes in ten minutes");
    linux.refuse_all(None);
    whole(&kernel).await;
    assert!(kernel.status().borrow().has_next_hop("172.16.1.4".parse().unwrap()));
    assert_eq!(kernel.status().borrow().left, []);
    tasks.stop().await;
}
