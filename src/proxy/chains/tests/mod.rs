// SPDX-License-Identifier: Apache-2.0

//! Checks both whole chains against the laws, with kernel and addresses in memory.

use std::{cell::Cell, sync::Arc};

use tower::layer::layer_fn;
use tower_layer::Layer;

use super::*;
use crate::{
    api::{Connection, Mechanism, MechanismKind, State, parameter},
    chain::{CallContext, Close, Next, Request, Result, laws},
    ipam::{BRIDGE, Lease},
    kernel::{Memory, Settings},
    proxy::in_memory,
    testing::{self, Authority, Below},
    transport::{Caller, FdHub, Peer, Svid, token},
};

mod balancer;

const LIFETIME: Duration = Duration::from_secs(600);

/// A proxy without transport.
struct Proxy {
    parts: Parts,
    linux: Memory,
    _bridge: Lease,
}

impl Proxy {
    async fn new(name: &str) -> Self {
        let mut in_memory = in_memory::parts(name, &Tasks::default()).unwrap();
        let settings = Settings::of("trench", "conduit", "node");
        let linux = Memory::default();
        in_memory.kernel = Kernel::start(settings, linux.clone(), &in_memory.tasks);
        let bridge = in_memory.leases.acquire(BRIDGE, CallContext::within(LIFETIME).deadline).await.unwrap();
        in_memory.kernel.set_gateways(bridge.addresses());
        in_memory.kernel.set_vips(&["20.0.0.1/32", "2000::1/128"].map(|vip| vip.parse().unwrap()));
        let gateways = watch::channel(bridge.addresses().into()).1;
        Self { parts: Parts { gateways, ..in_memory }, linux, _bridge: bridge }
    }

    /// The parts of a chain whose lanes are these tasks.
    fn parts(&self, tasks: &Tasks) -> Parts {
        Parts { tasks: tasks.clone(), ..self.parts.clone() }
    }

    /// Numbers of leases, ports, next hops, names, and connections that are monitored or carry
    /// egress.
    fn held(&self) -> [usize; 6] {
        let Parts { kernel, leases, names, connections, egress, .. } = &self.parts;
        let leases = leases.status().borrow().clone();
        let kernel = kernel.status().borrow().clone();
        let ports = kernel.ports.len() + kernel.pending.len();
        let hops = kernel.declared_next_hops().len();
        [leases.wanted + leases.held, ports, hops, names.len(), connections.len(), egress.count()]
    }
}

/// The maximum of each number, and the sum of the present ones.
#[derive(Default)]
struct Most(Cell<[usize; 6]>);

impl Most {
    fn sum(&self, held: [usize; 6]) -> usize {
        let most = self.0.get();
        self.0.set(std::array::from_fn(|at| most[at].max(held[at])));
        held.iter().sum()
    }
}

/// A hop before the proxy, or the load balancer: its identity as it uses it, and as others verify
/// it.
struct Hop(Arc<Svid>, Arc<Peer>);

fn hop(authority: &Authority, name: &str) -> Hop {
    let leaf = authority.leaf(name);
    let svid = Svid::new(&authority.context(&leaf)).unwrap();
    Hop(Arc::new(svid), Arc::new(Peer::of(&leaf.certificate).unwrap()))
}

/// A target's calls as the transport passes them on: its path, and the wire that it used.
#[derive(Clone)]
struct Target(Caller);

impl Target {
    fn prepare(&self, connection: &mut Connection, context: &mut CallContext) {
        testing::path(connection, 0, &[None, None]);
        let hub = Some(Arc::new(FdHub::default()));
        context.extensions.insert(Caller { hub, ..self.0.clone() });
    }
}

impl Element for Target {
    const NAME: &'static str = "target";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        self.prepare(&mut request.connection, &mut request.context);
        request.preferences = vec![Mechanism::local(MechanismKind::Kernel)];
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        self.prepare(&mut close.connection, &mut close.context);
        next.close(close).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_chain_that_targets_call_keeps_the_laws() {
    let proxy = Proxy::new("hop1").await;
    let authority = Authority::new("test.domain");
    let target = hop(&authority, "target");
    let own = hop(&authority, "proxy");
    let token = token::issue(&target.0, &own.1, LIFETIME).unwrap();
    let target = Target(Caller { hub: None, svid: own.0, peer: target.1, token: Some(token) });
    let most = Most::default();
    laws::check_chain(
        |tasks: &Tasks| {
            let parts = proxy.parts(tasks);
            let rows = layer_fn(move |next: Next| endpoint(&parts).end(next).build().unwrap());
            Chain::new().with(target.clone()).layer("rows", rows)
        },
        || most.sum(proxy.held()),
    )
    .await
    .unwrap();
    assert_eq!(most.0.get(), [3, 1, 0, 1, 1, 0], "two leases beside the bridge's, a port, a name");
    proxy.parts.tasks.stop().await;
}

/// The caller inside the proxy: it sets the path of each call, as the mesh does.
#[derive(Clone)]
struct Mesh;

impl Element for Mesh {
    const NAME: &'static str = "mesh";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        testing::path(&mut request.connection, 0, &[None]);
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        testing::path(&mut close.connection, 0, &[None]);
        next.close(close).await
    }
}

/// The load balancer: its link has the preferred name and exists, and it publishes its connections.
struct LoadBalancer(Connections, Memory);

impl Element for LoadBalancer {
    const NAME: &'static str = "load_balancer";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let id = request.connection.id.clone();
        let name = request.preferences.first().and_then(Mechanism::interface).unwrap().to_string();
        let mut answer = next.request(request).await?;
        self.1.add_link(&name, None);
        answer.mechanism.as_mut().unwrap().parameters.insert(parameter::NAME.into(), name);
        answer.set_state(State::Up);
        self.0.publish(&id, (*answer).clone());
        Ok(answer)
    }
}

#[tokio::test(start_paused = true)]
async fn the_chain_that_calls_load_balancers_keeps_the_laws() {
    let below = Below::default();
    let connections = Connections::default();
    let proxy = Proxy::new("hop0").await;
    let rows = Chain::new()
        .with(UpdatePath::new("lb"))
        .with(UpdateToken::new(LIFETIME))
        .with(authorize::Endpoint)
        .with(LoadBalancer(connections.clone(), proxy.linux.clone()));
    let peer = below.served_below(rows, connections).await;
    let most = Most::default();
    laws::check_chain(
        |tasks: &Tasks| {
            let parts = proxy.parts(tasks);
            let below = below.clone();
            let dialer = peer.dialer.clone();
            let rows = layer_fn(move |next: Next| {
                let connect = Connect::new(dialer.clone());
                let last = below.under(move || connect.clone());
                client(&parts).end(last.layer(next)).build().unwrap()
            });
            Chain::new().with(Mesh).layer("rows", rows)
        },
        || most.sum(proxy.held()) + below.open(),
    )
    .await
    .unwrap();
    assert_eq!(most.0.get(), [3, 1, 2, 1, 0, 1], "two leases beside the bridge's, a port, next hops, a name");
    proxy.parts.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_rows_are_those_of_the_chains_that_are_built() {
    let proxy = Proxy::new("px").await;
    let built = [("endpoint", endpoint(&proxy.parts)), ("client", client(&proxy.parts))];
    for ((name, rows), (built, chain)) in ROWS.into_iter().zip(built) {
        assert_eq!((name, rows), (built, &*chain.names().collect::<Vec<_>>()));
    }
}
