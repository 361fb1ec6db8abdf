// SPDX-License-Identifier: Apache-2.0

//! Tests the prober beside a reconciler, over the kernel in memory, under paused time.

use std::net::IpAddr;

use super::*;
use crate::{
    api::{Dual, Family},
    kernel::{
        Degraded, Kernel, Memory,
        tests::balancer::{self, Balancer},
    },
    task::Tasks,
};

const ONE: &str = "172.16.1.2";
const TWO: &str = "172.16.1.4";

struct Rig {
    tasks: Tasks,
    linux: Memory,
    kernel: Kernel,
    _balancers: [Balancer; 2],
}

async fn rig() -> Rig {
    rig_over(Memory::default()).await
}

async fn rig_over(linux: Memory) -> Rig {
    let tasks = Tasks::default();
    let settings = crate::kernel::Settings {
        liveness: Some(Settings::default()),
        ..crate::kernel::Settings::of("trench", "conduit", "node")
    };
    let kernel = Kernel::start(settings, linux.clone(), &tasks);
    kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
    let balancers =
        [("lb-1", ONE), ("lb-2", TWO)].map(|(link, hop)| balancer::in_memory(&linux, &kernel, link, &[hop]));
    let rig = Rig { tasks, linux, kernel, _balancers: balancers };
    rig.until(|status| hops(status) == addresses(&[ONE, TWO])).await;
    rig
}

impl Rig {
    /// Waits until the status fits; returns how long that took.
    async fn until(&self, fits: impl FnMut(&Status) -> bool) -> Duration {
        let start = Instant::now();
        let mut status = self.kernel.status();
        let found = tokio::time::timeout(Duration::from_secs(60), status.wait_for(fits)).await;
        assert!(found.is_ok(), "{:?}", self.kernel.status().borrow().clone());
        start.elapsed()
    }

    /// Waits until both are known to answer.
    async fn known(&self) {
        let mut verdicts = self.kernel.verdicts();
        tokio::time::timeout(
            Duration::from_secs(60),
            verdicts.wait_for(|verdicts| verdicts.len() == 2 && verdicts.values().all(|answers| *answers)),
        )
        .await
        .unwrap()
        .unwrap();
    }

    fn silence(&self, address: &str, silent: bool) {
        self.linux.set_silent(address.parse().unwrap(), silent);
    }

    async fn end(self) {
        drop(self.kernel);
        self.tasks.stop().await;
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn hops(status: &Status) -> Vec<IpAddr> {
    status.next_hops.v4.iter().flatten().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn a_silent_next_hop_leaves_the_route_soon_and_comes_back() {
    let rig = rig().await;
    rig.known().await;
    rig.silence(ONE, true);
    let silent = rig.until(|status| hops(status) == addresses(&[TWO])).await;
    assert!(Duration::from_millis(600) < silent && silent < Duration::from_millis(1050), "{silent:?}");
    assert!(!rig.kernel.verdicts().borrow()[&addresses(&[ONE])[0]]);
    let work = rig.kernel.work();
    assert!(work.probes() > 12 && work.silences() == 1, "{work:?}");
    rig.silence(ONE, false);
    let back = rig.until(|status| hops(status) == addresses(&[ONE, TWO])).await;
    assert!(back < Duration::from_millis(600), "{back:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_to_an_answer_is_that_since_the_solicitation() {
    let rig = rig().await;
    rig.known().await;
    let work = rig.kernel.work();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let to = Arc::clone(&seen);
    work.observe(move |took| to.lock().unwrap().push(took));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let times = work.answers();
    assert_eq!(times.keys().copied().collect::<Vec<_>>(), addresses(&[ONE, TWO]));
    // A round is 135 to 150 ms after the last, and the answers are 100 ms old.
    let is_near = |took: &Duration| (34..52).contains(&took.as_millis());
    assert!(times.values().all(is_near), "{times:?}");
    assert!(seen.lock().unwrap().len() >= 24 && seen.lock().unwrap().iter().all(is_near), "{seen:?}");
    rig.silence(ONE, true);
    rig.until(|status| hops(status) == addresses(&[TWO])).await;
    assert_eq!(work.answers().keys().copied().collect::<Vec<_>>(), addresses(&[TWO]));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn if_all_fall_silent_the_last_next_hops_stay_and_are_reported() {
    let rig = rig().await;
    rig.known().await;
    [ONE, TWO].iter().for_each(|address| rig.silence(address, true));
    rig.until(|status| status.degraded.contains(&Degraded::NoneAnswers(Family::V4))).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!hops(&rig.kernel.status().borrow()).is_empty());
    [ONE, TWO].iter().for_each(|address| rig.silence(address, false));
    rig.until(|status| status.degraded.is_empty() && hops(status) == addresses(&[ONE, TWO])).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_next_hop_is_not_silent_when_declared_again() {
    let rig = rig().await;
    rig.known().await;
    rig.silence(ONE, true);
    rig.until(|status| hops(status) == addresses(&[TWO])).await;
    let Rig { tasks, linux, kernel, _balancers: [one, two] } = rig;
    drop(one);
    kernel.settled().await;
    let mut status = kernel.status();
    let forgotten = status.wait_for(|status| !status.answers.contains_key(&addresses(&[ONE])[0]));
    tokio::time::timeout(Duration::from_secs(60), forgotten).await.unwrap().unwrap();
    linux.set_silent(addresses(&[ONE])[0], false);
    let one = balancer::declare(&kernel, "lb-1", &[ONE]);
    let rig = Rig { tasks, linux, kernel, _balancers: [one, two] };
    rig.until(|status| hops(status) == addresses(&[ONE, TWO])).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_probes_next_hops_stay_and_health_names_it() {
    let linux = Memory::default();
    linux.forbid_neighbours();
    let rig = rig_over(linux).await;
    rig.silence(ONE, true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = rig.kernel.status().borrow().clone();
    assert_eq!(hops(&status), addresses(&[ONE, TWO]));
    assert_eq!(status.degraded, [Degraded::NotProbed("permission denied".into())]);
    assert_eq!(status.faults().egress, ["load balancers are not probed: permission denied"]);
    rig.end().await;
}
