// SPDX-License-Identifier: Apache-2.0

//! Tests load balancers that die without notice, over a real kernel.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    balancer::{self, Balancer},
    far::Far,
    netns::{in_netns, settings, start_with, status},
};
use crate::testing::eventually;
use crate::testing::witness::{add_address, add_veth, change_link, flush_addresses};
use crate::{
    api::Dual,
    kernel::{Kernel, Settings, Status, liveness},
    task::Tasks,
};

const ONE: [&str; 2] = ["172.16.1.2", "fd00::2"];
const TWO: [&str; 2] = ["172.16.1.4", "fd00::4"];

/// A load balancer in a separate network namespace.
struct Lb {
    far: Far,
    link: &'static str,
    addresses: [&'static str; 2],
    _declared: Balancer,
}

impl Lb {
    fn new(kernel: &Kernel, link: &'static str, addresses: [&'static str; 2]) -> Self {
        let far = Far::new();
        add_veth(link, &format!("{link}p"));
        far.take(&format!("{link}p"));
        change_link(link, |link| link.up());
        far.run(move || change_link(&format!("{link}p"), |link| link.up()));
        let lb = Self { far, link, addresses, _declared: balancer::declare(kernel, link, &addresses) };
        lb.answer();
        lb
    }

    fn answer(&self) {
        let link = format!("{}p", self.link);
        let addresses = self.addresses;
        self.far.run(move || {
            add_address(&link, &format!("{}/24", addresses[0]));
            add_address(&link, &format!("{}/64", addresses[1]));
        });
    }

    /// The link stays up, but no longer answers.
    fn die(&self) {
        let link = format!("{}p", self.link);
        self.far.run(move || flush_addresses(&link));
    }
}

fn hops(status: &Status) -> BTreeSet<IpAddr> {
    status.next_hops.iter().flat_map(|(_, hops)| hops.iter().copied()).collect()
}

fn all(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

async fn two_that_answer(tasks: &Tasks) -> (Kernel, [Lb; 2]) {
    let settings = Settings { liveness: Some(liveness::Settings::default()), ..settings() };
    let kernel = start_with(settings, tasks).await;
    kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() });
    kernel.set_vips(&["20.0.0.1/32", "2000::1/128"].map(|vip| vip.parse().unwrap()));
    let lbs = [("lb-1", ONE), ("lb-2", TWO)].map(|(link, addresses)| Lb::new(&kernel, link, addresses));
    status(&kernel, |status| hops(status) == all(&[ONE, TWO].concat())).await;
    let mut verdicts = kernel.verdicts();
    tokio::time::timeout(
        Duration::from_secs(20),
        verdicts.wait_for(|verdicts| verdicts.len() == 4 && verdicts.values().all(|it| *it)),
    )
    .await
    .unwrap()
    .unwrap();
    (kernel, lbs)
}

#[test]
fn a_silently_dead_load_balancer_is_withdrawn_and_comes_back() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, [one, _two]) = two_that_answer(&tasks).await;
        let times = eventually(|| kernel.work().answers(), |times| times.len() == 4).await;
        println!("answered after {times:?}");
        assert!(times.values().all(|took| *took < Duration::from_secs(1)), "{times:?}");
        for _ in 0..2 {
            let died = Instant::now();
            one.die();
            status(&kernel, |status| hops(status) == all(&TWO)).await;
            println!("withdrawn after {:?}", died.elapsed());
            assert_eq!(kernel.work().answers().into_keys().collect::<BTreeSet<_>>(), all(&TWO));
            assert!(died.elapsed() < Duration::from_secs(4), "{:?}", died.elapsed());
            let answered = Instant::now();
            one.answer();
            status(&kernel, |status| hops(status) == all(&[ONE, TWO].concat())).await;
            println!("back after {:?}", answered.elapsed());
        }
        tasks.stop().await;
    });
}

/// An entry keeps the timer with which it began: a second by default, in which the prober waits.
#[test]
fn the_timers_are_set_before_the_first_next_hop() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let settings = Settings { liveness: Some(liveness::Settings::default()), ..settings() };
        let kernel = start_with(settings, &tasks).await;
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() });
        for family in ["ipv4", "ipv6"] {
            let timer = format!("/proc/sys/net/{family}/neigh/bridge0/retrans_time_ms");
            let read = || fs::read_to_string(&timer).ok()?.trim().parse::<u32>().ok();
            eventually(read, |ms| ms.is_some_and(|ms| (150..=170).contains(&ms))).await; // in ticks
        }
        tasks.stop().await;
    });
}

#[test]
fn no_load_balancer_is_withdrawn_while_every_core_is_busy() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _lbs) = two_that_answer(&tasks).await;
        let stop = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().unwrap().get();
        let busy: Vec<_> = (0..2 * cores)
            .map(|_| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || while !stop.load(Relaxed) {})
            })
            .collect();
        let mut verdicts = kernel.verdicts();
        let found = tokio::time::timeout(
            Duration::from_secs(5),
            verdicts.wait_for(|verdicts| verdicts.values().any(|answers| !answers)),
        )
        .await;
        stop.store(true, Relaxed);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(found.is_err(), "{:?}", kernel.verdicts().borrow());
        tasks.stop().await;
    });
}
