// SPDX-License-Identifier: Apache-2.0

//! The world of one program, its processor time and its memory.

use std::{fs, path::PathBuf, time::Duration};

use ipnet::IpNet;
use meridio_lab::{
    pods::{ground::Ground, pod::Process},
    topology::Topology,
    world::{World, components::Component},
};
use nix::{time::ClockId, unistd::Pid};
use nsm::proxy::health::{READINESS, probe};
use tokio::time::{Instant, sleep};

/// Time that IPAM's store takes for a call: Meridio's takes some 5 ms.
const STORE: Duration = Duration::from_millis(5);
/// Timeout of the program's start, and of its end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running program with two load balancers, without targets.
pub(crate) struct Place {
    pub(crate) world: World,
    pub(crate) targets: usize,
}

impl Place {
    pub(crate) async fn build(ground: &Ground, program: &'static str, targets: usize) -> Self {
        let topology = Topology { targets, ..Topology::whole() };
        let mut world = World::build(&topology, ground, false, program).await.unwrap();
        world.ipam.set_store(STORE).await;
        let vips = topology.vips().into_iter().map(IpNet::from).zip(1..);
        world.nsp.set_vips(
            vips.map(|(vip, number)| (format!("vip-{number}"), vip.to_string())).collect::<Vec<_>>(),
        );
        world.start(Component::Nsp).unwrap();
        world.start_proxies().unwrap();
        for lb in 0..topology.lbs {
            world.start_lb(lb).await.unwrap();
        }
        let place = Self { world, targets: 0 };
        place.ready().await;
        place
    }

    async fn ready(&self) {
        let start = Instant::now();
        let socket = self.world.proxies[0].health_socket();
        while let Err(error) = probe(&socket, READINESS, Duration::from_secs(1)).await {
            assert!(start.elapsed() < TIMEOUT, "{error}\n{}", self.process().tail(20));
            sleep(Duration::from_millis(20)).await;
        }
        let whole = || self.world.lbs.values().all(|lb| lb.connections().len() == 1);
        while !whole() {
            assert!(start.elapsed() < TIMEOUT, "a load balancer is not connected");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn process(&self) -> &Process {
        self.world.proxies[0].process.as_ref().unwrap()
    }

    /// Resident memory in KiB.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn resident(&self) -> f64 {
        self.process().resident().unwrap() as f64 / 1024.0
    }

    /// Processor time that the program has used so far.
    pub(crate) fn processor(&self) -> Duration {
        let pid = Pid::from_raw(self.process().pid().try_into().unwrap());
        ClockId::pid_cpu_clock_id(pid).unwrap().now().unwrap().into()
    }

    /// The socket of the program's endpoint, in a folder below its `/tmp`.
    pub(crate) fn endpoint(&self) -> PathBuf {
        let folders = fs::read_dir(self.world.fabric.proxies[0].state().unwrap()).unwrap();
        let mut sockets = folders.map(|folder| folder.unwrap().path().join("listen.on"));
        sockets.find(|socket| socket.exists()).unwrap()
    }

    /// Adds targets that are not connected yet.
    pub(crate) fn add_targets(&mut self, count: usize) {
        for number in self.targets..self.targets + count {
            self.world.add_target(number).unwrap();
        }
        self.targets += count;
    }

    pub(crate) async fn end(mut self) {
        let process = self.world.proxies[0].process.take().unwrap();
        process.terminate(TIMEOUT).await.unwrap();
        drop(self.world.stop().await.unwrap());
    }
}
