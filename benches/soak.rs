// SPDX-License-Identifier: Apache-2.0

//! Connect, refresh and close many connections through the endpoint chain, and print the memory,
//! descriptors, tasks and leases of the process, none of which may grow.
//!
//! `cargo bench --bench soak -- 200000` goes through so many connections, each with an id of its
//! own, 16 at a time; without a number through 2,000. Kernel and IPAM are in memory; tokens are
//! signed and verified. A table has resident memory, descriptors, tasks, leases, ports and names at
//! ten moments, each with all connections closed. The exit code is 1 if anything but memory has
//! grown after the first tenth, or memory by more than 64 bytes for each connection.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{fs, path::Path, process::ExitCode, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use meridio_proxy::{
    api::{Connection, Mechanism, MechanismKind},
    chain::{Close, Context, Next, Request, Tail, Tasks, path},
    ipam::{self, BRIDGE, InMemory, Leases, Subnet, Tree},
    kernel::{Kernel, Memory, Settings},
    proxy::{
        chains::{self, Parts},
        in_memory,
    },
    transport::{Caller, FdHub},
};
use tokio::{sync::watch, time::Instant};

use self::common::HOUR;

/// Connections under way at once.
const AT_ONCE: usize = 16;
/// Rows of the table.
const LOOKS: usize = 10;
/// Connections without a number in the arguments.
const FEW: usize = 2_000;
/// Bytes of memory that a connection may leave: allocators keep some.
const SLOPE: f64 = 64.0;

/// The resources of the process.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    resident: usize,
    rest: [usize; 5],
}

struct Rig {
    endpoint: Next,
    parts: Parts,
    linux: Memory,
    caller: Caller,
    tasks: Tasks,
}

impl Rig {
    async fn new(folder: &Path) -> Self {
        let tasks = Tasks::default();
        let caller = common::caller(folder, &tasks).await;
        let tree = Tree::new("trench");
        tree.add_conduit("conduit").unwrap();
        let subnet = Subnet { trench: "trench".into(), conduit: "conduit".into(), node: "node".into() };
        let settings = ipam::Settings { release_delay: Duration::ZERO, ..ipam::Settings::default() };
        let leases = Leases::start(InMemory::new(tree, subnet), settings, &tasks);
        let linux = Memory::default();
        let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
        let bridge = leases.acquire(BRIDGE, Instant::now() + HOUR).await.unwrap();
        let gateways = watch::channel(bridge.addresses().into()).1;
        kernel.set_gateways(bridge.addresses());
        let in_memory = in_memory::parts("px", &tasks).unwrap();
        let parts = Parts { gateways, leases, kernel, ..in_memory };
        let endpoint = chains::endpoint(&parts).build(Tail).unwrap();
        Self { endpoint, parts, linux, caller, tasks }
    }

    fn context(&self) -> Context {
        let mut context = Context::within(Duration::from_secs(15));
        let hub = Some(Arc::new(FdHub::default()));
        context.extensions.insert(Caller { hub, ..self.caller.clone() });
        context
    }

    fn named(&self, number: usize) -> Box<Connection> {
        let mut connection = Connection::named(format!("target-{number}-proxy-0"));
        path::enter(&mut connection, "target", String::new).unwrap();
        connection
    }

    async fn connect_refresh_close(&self, number: usize) {
        let preferences = vec![Mechanism::local(MechanismKind::Kernel)];
        let first = Request { connection: self.named(number), preferences, context: self.context() };
        let answer = self.endpoint.request(first).await.unwrap();
        let refresh =
            Request { connection: answer.clone(), preferences: Vec::new(), context: self.context() };
        self.endpoint.request(refresh).await.unwrap();
        let close = Close { connection: answer, context: self.context() };
        self.endpoint.close(close).await.unwrap();
    }

    /// Wait until every lease is released, and count.
    async fn held(&self) -> Held {
        let mut leases = self.parts.leases.status();
        leases.wait_for(|status| status.wanted + status.releasing == 0).await.unwrap();
        self.parts.kernel.settled().await;
        drop(self.linux.take_made());
        let kernel = self.parts.kernel.status().borrow().clone();
        let leases = leases.borrow().held;
        let ports = kernel.ports.len() + kernel.pending.len();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = [descriptors, self.tasks.len(), leases, ports, self.parts.names.len()];
        Held { resident: pages * 4096, rest }
    }
}

async fn soak(connections: usize) -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    println!("connections  resident KiB  descriptors  tasks  leases  ports  names");
    let mut looks = Vec::new();
    for look in 1..=LOOKS {
        let numbers = connections * (look - 1) / LOOKS..connections * look / LOOKS;
        let work =
            stream::iter(numbers).for_each_concurrent(AT_ONCE, |number| rig.connect_refresh_close(number));
        work.await;
        let held = rig.held().await;
        let [descriptors, tasks, leases, ports, names] = held.rest;
        println!(
            "{:>11}  {:>12}  {descriptors:>11}  {tasks:>5}  {leases:>6}  {ports:>5}  {names:>5}",
            connections * look / LOOKS,
            held.resident / 1024
        );
        looks.push(held);
    }
    let first = &looks[0];
    let last = &looks[LOOKS - 1];
    #[allow(clippy::cast_precision_loss)]
    let slope = (last.resident as f64 - first.resident as f64) / (connections - connections / LOOKS) as f64;
    println!("{slope:.1} bytes of resident memory for each connection after the first tenth");
    // The last calls' tasks may still be ending.
    let grown = last.rest.iter().zip(&first.rest).any(|(last, first)| *last > first + 1);
    let small = connections < 100_000; // what the allocator takes at first is not yet spread over enough
    rig.tasks.stop().await;
    if grown || !(small || slope <= SLOPE) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn main() -> ExitCode {
    let connections = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(FEW);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(soak(connections))
}
