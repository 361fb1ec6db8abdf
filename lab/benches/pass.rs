// SPDX-License-Identifier: Apache-2.0

//! Measures a pass of the reconciler over the real kernel, while 10, 100 or 1,000 targets have a
//! port: a pass that changes nothing, and one that makes one more link a port.
//!
//! `cargo bench --bench pass`; `cargo test --bench pass` takes one sample of each. Needs root.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    io,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use meridio_lab::network::{netlink::Netlink as Hand, netns::Netns};
use nsm::{
    api::Dual,
    kernel::{Ends, Kernel, Netlink, PeerId, PortGuard, Settings},
    task::Tasks,
};
use tokio::time::sleep;

const STANDING: [usize; 3] = [10, 100, 1000];
const SAMPLES: usize = 40;

/// A node's namespace, with a reconciler in it, and the namespace of all targets.
struct Node {
    kernel: Kernel,
    tasks: Tasks,
    hand: Hand,
    targets: Netns,
    ports: Vec<PortGuard>,
}

impl Node {
    async fn new(netns: &Netns) -> io::Result<Self> {
        let tasks = Tasks::default();
        let settings = Settings::of("trench", "conduit", "node");
        let kernel = Kernel::start_on_thread(settings, Netlink::open, &tasks).await?;
        kernel.set_gateways(Dual {
            v4: Some("172.16.0.1/16".parse().unwrap()),
            v6: Some("fd00::1/64".parse().unwrap()),
        });
        kernel.settled().await;
        let hand = Hand::connect(netns)?;
        Ok(Self { kernel, tasks, hand, targets: Netns::new()?, ports: Vec::new() })
    }

    /// Creates a link as a forwarder does.
    async fn link(&self, number: usize) -> String {
        let name = format!("nsm-{number}");
        self.hand.add_veth(&name, &format!("far-{number}"), &self.targets).await.unwrap();
        self.hand.set_up(self.hand.index(&name).await.unwrap()).await.unwrap();
        name
    }

    fn claim(&mut self, number: usize, name: &str) {
        let far = IpAddr::from((0xac10_0100 + u32::try_from(number).unwrap()).to_be_bytes());
        let ends = Ends { near: [].into(), far: [far].into() };
        let target = PeerId::target(&format!("target-{number}"));
        self.ports.push(self.kernel.port(&target, name.parse().unwrap(), ends));
    }

    /// Waits until the pass that `declare` causes is over, and then until the next one may start at
    /// once.
    async fn pass(&mut self, declare: impl FnOnce(&mut Self)) -> Duration {
        let started = Instant::now();
        declare(self);
        self.kernel.settled().await;
        let elapsed = started.elapsed();
        sleep(3 * elapsed + Duration::from_millis(5)).await;
        elapsed
    }
}

fn print(row: &str, standing: usize, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let at = |percent: usize| samples[(samples.len() - 1) * percent / 100];
    println!("{row:>6}  {standing:>5}  {:>10.2?}  {:>10.2?}  {:>10.2?}", at(50), at(90), at(100));
}

async fn rows(netns: &Netns, samples: usize) -> io::Result<()> {
    let mut node = Node::new(netns).await?;
    println!("   row  links         p50         p90         max");
    for standing in STANDING {
        for number in node.ports.len()..standing {
            let name = node.link(number).await;
            node.claim(number, &name);
        }
        node.kernel.settled().await;
        let mut clean = Vec::new();
        let mut join = Vec::new();
        for sample in 0..samples {
            clean.push(node.pass(|node| node.kernel.relinked("192.0.2.1".parse().unwrap())).await);
            let number = 10_000 + standing + sample;
            let name = node.link(number).await;
            sleep(Duration::from_millis(50)).await; // for the passes that its events cause
            join.push(node.pass(|node| node.claim(number, &name)).await);
            node.ports.pop();
            node.hand.delete_link(node.hand.index(&name).await.unwrap()).await.unwrap();
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(node.kernel.status().borrow().ports.len(), standing);
        print("clean", standing, clean);
        print("join", standing, join);
    }
    node.tasks.stop().await;
    Ok(())
}

fn main() -> io::Result<()> {
    let samples = if std::env::args().any(|argument| argument == "--bench") { SAMPLES } else { 1 };
    let netns = Netns::new()?;
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(rows(&netns, samples))
    };
    thread::scope(|scope| scope.spawn(|| netns.run(run)).join().unwrap())
}
