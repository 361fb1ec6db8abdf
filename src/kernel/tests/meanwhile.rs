// SPDX-License-Identifier: Apache-2.0

//! Tests declarations that arrive during a pass.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::over::Over;
use crate::{
    api::Dual,
    kernel::{
        Backend, Degraded, Ends, Kernel, Memory, NextHopGuard, Observed, Op, Ours, PeerId, PortGuard,
        Refusal, Settings, Status,
    },
    task::Tasks,
};

/// A kernel in memory. Each read of it claims one more next hop, up to a number; each change takes
/// some time.
#[derive(Clone, Default)]
struct Busy {
    linux: Memory,
    most: u8,
    slowness: Duration,
    kernel: Arc<OnceLock<Kernel>>,
    claimed: Arc<Mutex<Vec<NextHopGuard>>>,
    port: Arc<OnceLock<PortGuard>>,
    told: Arc<Mutex<Vec<Status>>>,
    reopened: Arc<AtomicU64>,
}

fn balancer() -> PeerId {
    PeerId::load_balancer("lb")
}

fn hop(nth: u8) -> IpAddr {
    [172, 16, 1, 2 + nth].into()
}

impl Busy {
    fn start(&self, tasks: &Tasks) -> Kernel {
        let kernel = Kernel::start(Settings::of("t", "c", "n"), self.clone(), tasks);
        assert!(self.kernel.set(kernel.clone()).is_ok());
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
        self.linux.add_link("lb", None);
        assert!(self.port.set(kernel.port(&balancer(), "lb".parse().unwrap(), Ends::default())).is_ok());
        kernel
    }

    /// Waits until everything is claimed and settled; returns the status at each read, and at the
    /// end.
    async fn told(&self, kernel: &Kernel) -> Vec<Status> {
        while self.claimed.lock().unwrap().len() < self.most.into() {
            kernel.settled().await;
        }
        kernel.settled().await;
        let mut told = std::mem::take(&mut *self.told.lock().unwrap());
        told.push(kernel.status().borrow().clone());
        told
    }
}

impl Over for Busy {
    type Inner = Memory;

    fn inner(&mut self) -> &mut Memory {
        &mut self.linux
    }

    async fn dump(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        let kernel = self.kernel.get().unwrap();
        self.told.lock().unwrap().push(kernel.status().borrow().clone());
        let mut claimed = self.claimed.lock().unwrap();
        let next = claimed.len() as u8;
        if next < self.most {
            claimed.push(kernel.next_hop(&balancer(), hop(next)));
        }
        Ok(self.linux.observed(ours))
    }

    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        tokio::time::sleep(self.slowness).await;
        self.linux.apply(ours, op).await
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.reopened.fetch_add(1, SeqCst);
        self.linux.reopen()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_during_a_pass_is_part_of_it_and_no_failure() {
    let tasks = Tasks::default();
    let busy = Busy { most: 6, ..Busy::default() };
    let kernel = busy.start(&tasks);
    let told = busy.told(&kernel).await;
    let first = told.iter().find(|status| status.passes == 1).unwrap();
    assert_eq!((&first.failures, &first.degraded), (&vec![], &vec![]), "{first:?}");
    let made = busy.linux.made();
    for hop in (0..busy.most).map(hop) {
        assert!(first.has_next_hop(hop), "{hop}: {first:?}");
        let installs = |op: &Op| matches!(op, Op::SetNextHops(_, hops) if hops.contains(&hop));
        let forgotten = made.iter().position(|op| *op == Op::ForgetNeighbour(hop));
        let installed = made.iter().position(installs);
        assert!(forgotten.is_some() && forgotten < installed, "{hop}: {forgotten:?} {installed:?}");
    }
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_declarations_ends_no_pass_late_and_is_no_failure() {
    let tasks = Tasks::default();
    let busy = Busy { most: 100, ..Busy::default() };
    let kernel = busy.start(&tasks);
    let told = busy.told(&kernel).await;
    let passes = told.last().unwrap().passes;
    assert!((100 / 17..20).contains(&passes), "{passes}");
    assert!(told.iter().all(|status| status.degraded.is_empty() && status.failures.is_empty()));
    let first = told.iter().rfind(|status| status.passes == 0).unwrap();
    assert!(first.has_next_hop(hop(9)), "told before the end of a pass: {first:?}");
    assert!(told.last().unwrap().has_next_hop(hop(99)));
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_declarations_beside_a_refused_change_is_paced() {
    let tasks = Tasks::default();
    let busy = Busy { most: 100, slowness: Duration::from_millis(1), ..Busy::default() };
    busy.linux.refuse_all(Some(1));
    let kernel = busy.start(&tasks);
    let start = Instant::now();
    let told = busy.told(&kernel).await;
    let passes = told.last().unwrap().passes;
    assert!((100 / 17..40).contains(&passes), "{passes}");
    assert!(busy.reopened.load(SeqCst) <= passes, "{:?}", busy.reopened);
    let writing = busy.slowness * busy.linux.asked() as u32;
    assert!(start.elapsed() > 2 * writing, "{writing:?} of {:?}", start.elapsed());
    assert!(told.last().unwrap().degraded.contains(&Degraded::Failing), "{told:?}");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_join_does_not_wait_for_thousands_of_vip_rules() {
    let tasks = Tasks::default();
    let busy = Busy { slowness: Duration::from_millis(1), ..Busy::default() };
    let kernel = busy.start(&tasks);
    kernel.settled().await;
    let vips = (0..3000u32).map(|i| format!("20.{}.{}.{}/32", i % 7, i / 100, i % 100 * 2).parse().unwrap());
    kernel.set_vips(&Vec::from_iter(vips));
    let mut status = kernel.status();
    let mut joined = async |name: &str| {
        let link = name.parse().unwrap();
        let start = Instant::now();
        let port = kernel.port(&PeerId::target(name), name.parse().unwrap(), Ends::default());
        status.wait_for(|status| status.leak_stopped.contains(&link)).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(500), "{name}: {:?}", start.elapsed());
        (port, status.borrow().vips)
    };
    let mut targets = Vec::new();
    for nth in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (port, all) = joined(&format!("nsm-{nth}")).await;
        assert!(!all, "the VIPs are still going in");
        targets.push(port);
    }
    kernel.settled().await;
    let (_port, all) = joined("nsm-late").await;
    assert!(all, "right after the long pass");
    tasks.stop().await;
}
