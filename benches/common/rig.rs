// SPDX-License-Identifier: Apache-2.0

//! The endpoint chain of a proxy, with kernel and IPAM in memory, and a target that calls it.

use std::{fs, path::Path, sync::Arc, time::Duration};

use nsm::{
    api::{Connection, Family, Mechanism, MechanismKind},
    chain::{CallContext, Close, Next, Request},
    elements::update_path::rules,
    ipam::{self, BRIDGE, InMemory, Leases, Pool, Subnet, Tree},
    kernel::{Kernel, Memory, Settings},
    proxy::{
        chains::{self, Parts},
        in_memory,
    },
    task::Tasks,
    transport::{Caller, FdHub},
};
use tokio::{sync::watch, time::Instant};

use super::common::{self, HOUR};

/// Size of a page in bytes.
const PAGE: usize = 4096;

pub(crate) struct Rig {
    pub(crate) parts: Parts,
    pub(crate) linux: Memory,
    pub(crate) tasks: Tasks,
    endpoint: Next,
    caller: Caller,
}

impl Rig {
    pub(crate) async fn new(folder: &Path) -> Self {
        let tasks = Tasks::default();
        let caller = common::caller(folder, &tasks).await;
        // Prefixes with room for a thousand addresses on the node.
        let pools = Family::BOTH.map(|family| (family, Pool::default_of(family)));
        let wide = pools.map(|(family, pool)| match family {
            Family::V4 => (family, Pool { conduit: 18, node: 20, ..pool }),
            Family::V6 => (family, pool),
        });
        let tree = Tree::with_pools("trench", wide.into_iter().collect());
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
        let endpoint = chains::endpoint(&parts).build().unwrap();
        Self { parts, linux, tasks, endpoint, caller }
    }

    fn context(&self) -> CallContext {
        let mut context = CallContext::within(Duration::from_secs(15));
        let hub = Some(Arc::new(FdHub::default()));
        context.extensions.insert(Caller { hub, ..self.caller.clone() });
        context
    }

    /// The first Request of a target.
    pub(crate) async fn connect(&self, number: usize) -> Box<Connection> {
        let mut connection = Connection::named(format!("target-{number}-proxy-0"));
        rules::enter(&mut connection, "target", String::new).unwrap();
        let preferences = vec![Mechanism::local(MechanismKind::Kernel)];
        let first = Request { connection, preferences, context: self.context() };
        self.endpoint.request(first).await.unwrap()
    }

    #[allow(dead_code)] // only one of the benchmarks refreshes
    pub(crate) async fn refresh(&self, connection: Box<Connection>) -> Box<Connection> {
        let refresh = Request { connection, preferences: Vec::new(), context: self.context() };
        self.endpoint.request(refresh).await.unwrap()
    }

    pub(crate) async fn close(&self, connection: Box<Connection>) {
        self.endpoint.close(Close { connection, context: self.context() }).await.unwrap();
    }
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    PAGE * pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}
