// SPDX-License-Identifier: Apache-2.0

//! Measures the cost of a join beside 10, 100 and 1,000 standing links, and the memory of a link.
//!
//! Each row lets targets join and leave, one after the other, through the endpoint chain. Kernel
//! and IPAM are in memory; tokens are signed and verified. A join waits until the kernel has the
//! target's leak stop, so it includes the passes of the reconciler.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use nsm::api::{Connection, Mechanism};

use self::rig::{Rig, resident};

/// Number of joins of a row.
const JOINS: usize = 100;
/// Number of standing links of each row.
const STANDING: [usize; 3] = [10, 100, 1_000];

/// Lets a target join and adds its link. Returns the duration of its Request.
async fn join(rig: &Rig, number: usize) -> (Box<Connection>, Duration) {
    let start = Instant::now();
    let connection = rig.connect(number).await;
    let took = start.elapsed();
    let link = connection.mechanism.as_ref().and_then(Mechanism::interface).unwrap();
    rig.linux.add_link(link.as_str(), None);
    rig.parts.kernel.settled().await;
    (connection, took)
}

async fn leave(rig: &Rig, connection: Box<Connection>) {
    let link = connection.mechanism.as_ref().and_then(Mechanism::interface).unwrap();
    rig.close(connection).await;
    rig.linux.remove_link(link.as_str());
    rig.parts.kernel.settled().await;
    drop(rig.linux.take_made());
}

async fn measure(standing: &[usize], joins: usize) {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    let before = resident();
    let mut links = 0;
    println!("standing links  a join: p50 ms  p90 ms  KiB of memory for each link");
    for &count in standing {
        while links < count {
            join(&rig, links).await;
            links += 1;
        }
        drop(rig.linux.take_made());
        let memory = resident().saturating_sub(before) / 1024 / count;
        let mut times = Vec::new();
        for _join in 0..joins {
            let (connection, took) = join(&rig, links).await;
            times.push(took);
            leave(&rig, connection).await;
        }
        times.sort_unstable();
        let [p50, p90] = [50, 90].map(|percent| times[times.len() * percent / 100].as_secs_f64() * 1e3);
        println!("{count:>14}  {p50:>14.2}  {p90:>6.2}  {memory:>27}");
    }
    rig.tasks.stop().await;
}

fn main() {
    let whole = std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if whole {
        runtime.block_on(measure(&STANDING, JOINS));
    } else {
        runtime.block_on(measure(&STANDING[..1], 3));
    }
}
