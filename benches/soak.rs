// SPDX-License-Identifier: Apache-2.0

//! Connects, refreshes and closes many connections through the endpoint chain, and prints the
//! memory, descriptors, tasks and leases of the process, none of which may grow.
//!
//! `cargo bench --bench soak -- 200000` makes so many connections, each with its own id, 16 at a
//! time; without a number it makes 2,000. Kernel and IPAM are in memory; tokens are signed and
//! verified. The table has resident memory, descriptors, tasks, leases, ports and names at ten
//! moments, each with all connections closed. The exit code is 1 if anything but memory has grown
//! after the first tenth, or memory by more than 64 bytes for each connection.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/rig.rs"]
mod rig;

use std::{fs, process::ExitCode};

use futures::{StreamExt, stream};

use self::rig::{Rig, resident};

/// Number of concurrent connections.
const AT_ONCE: usize = 16;
/// Number of rows in the table.
const ROWS: usize = 10;
/// Default number of connections.
const DEFAULT_CONNECTIONS: usize = 2_000;
/// Bytes of memory that a connection may leave, because allocators keep some.
const SLOPE: f64 = 64.0;

/// The resources of the process.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    resident: usize,
    rest: [usize; 5],
}

async fn connect_refresh_close(rig: &Rig, number: usize) {
    let connection = rig.refresh(rig.connect(number).await).await;
    rig.close(connection).await;
}

impl Held {
    /// Waits until every lease is released, and counts.
    async fn by(rig: &Rig) -> Self {
        let mut leases = rig.parts.leases.status();
        leases.wait_for(|status| status.wanted + status.releasing == 0).await.unwrap();
        rig.parts.kernel.settled().await;
        drop(rig.linux.take_made());
        let kernel = rig.parts.kernel.status().borrow().clone();
        let leases = leases.borrow().held;
        let ports = kernel.ports.len() + kernel.pending.len();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        let rest = [descriptors, rig.tasks.len(), leases, ports, rig.parts.names.len()];
        Self { resident: resident(), rest }
    }
}

async fn soak(connections: usize) -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    println!("connections  resident KiB  descriptors  tasks  leases  ports  names");
    let mut looks = Vec::new();
    for look in 1..=ROWS {
        let numbers = connections * (look - 1) / ROWS..connections * look / ROWS;
        let work =
            stream::iter(numbers).for_each_concurrent(AT_ONCE, |number| connect_refresh_close(&rig, number));
        work.await;
        let held = Held::by(&rig).await;
        let [descriptors, tasks, leases, ports, names] = held.rest;
        println!(
            "{:>11}  {:>12}  {descriptors:>11}  {tasks:>5}  {leases:>6}  {ports:>5}  {names:>5}",
            connections * look / ROWS,
            held.resident / 1024
        );
        looks.push(held);
    }
    let first = &looks[0];
    let last = &looks[ROWS - 1];
    #[allow(clippy::cast_precision_loss)]
    let slope = (last.resident as f64 - first.resident as f64) / (connections - connections / ROWS) as f64;
    println!("{slope:.1} bytes of resident memory for each connection after the first tenth");
    // The last calls' tasks may still be ending.
    let grown = last.rest.iter().zip(&first.rest).any(|(last, first)| *last > first + 1);
    let small = connections < 100_000; // the initial growth of the allocator is not yet spread over enough
    rig.tasks.stop().await;
    if grown || !(small || slope <= SLOPE) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn main() -> ExitCode {
    let connections =
        std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_CONNECTIONS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(soak(connections))
}
