// SPDX-License-Identifier: Apache-2.0

//! What is declared while a pass is under way.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock},
};

use crate::{
    api::Dual,
    chain::Tasks,
    kernel::{Backend, Kernel, Memory, NextHopGuard, Observed, Op, Ours, Refusal, Settings, Status},
};

/// A kernel in memory. Whenever it is read, one more next hop is claimed.
#[derive(Clone, Default)]
struct Busy {
    linux: Memory,
    kernel: Arc<OnceLock<Kernel>>,
    claimed: Arc<Mutex<Vec<NextHopGuard>>>,
    told: Arc<Mutex<Vec<Status>>>,
}

fn hops() -> [IpAddr; 6] {
    [2, 3, 4, 5, 6, 7].map(|last| IpAddr::from([172, 16, 1, last]))
}

impl Backend for Busy {
    async fn dump(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        let kernel = self.kernel.get().unwrap();
        self.told.lock().unwrap().push(kernel.status().borrow().clone());
        let mut claimed = self.claimed.lock().unwrap();
        if let Some(next) = hops().get(claimed.len()) {
            claimed.push(kernel.next_hop(*next, "lb"));
        }
        Ok(self.linux.observed(ours))
    }

    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        self.linux.apply(ours, op).await
    }

    async fn changed(&mut self, ours: &Ours) {
        self.linux.changed(ours).await;
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.linux.reopen()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_during_a_pass_is_part_of_it_and_no_failure() {
    let tasks = Tasks::default();
    let busy = Busy::default();
    let kernel = Kernel::start(Settings::of("t", "c", "n"), busy.clone(), &tasks);
    assert!(busy.kernel.set(kernel.clone()).is_ok());
    kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
    kernel.settled().await;
    let mut told = std::mem::take(&mut *busy.told.lock().unwrap());
    told.push(kernel.status().borrow().clone());
    let first = told.iter().find(|status| status.passes == 1).unwrap();
    assert_eq!((&first.failures, &first.degraded), (&vec![], &vec![]), "{first:?}");
    let made = busy.linux.made();
    for hop in hops() {
        assert!(first.has_next_hop(hop), "{hop}: {first:?}");
        let installs = |op: &Op| matches!(op, Op::SetNextHops(_, hops) if hops.contains(&hop));
        let forgotten = made.iter().position(|op| *op == Op::ForgetNeighbour(hop));
        let installed = made.iter().position(installs);
        assert!(forgotten.is_some() && forgotten < installed, "{hop}: {forgotten:?} {installed:?}");
    }
    tasks.stop().await;
}
