// SPDX-License-Identifier: Apache-2.0

//! A target, the proxy's two chains, and a load balancer, over unix sockets with mTLS.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use nsm::{
    api::{Connection, Mechanism, MechanismKind},
    chain::{
        Chain, Element, Named, Next, Reason, Request, Result, Tail, begin::BeginLayer,
        metadata::MetadataLayer,
    },
    elements::{
        authorize,
        connect::Connect,
        mechanism::{self, Names},
        monitor::Monitor,
        trim_path::TrimPath,
        update_path::UpdatePath,
        update_token::UpdateToken,
    },
    ipam::{BRIDGE, Lease},
    kernel::{self, Kernel, Memory},
    proxy::{
        chains::{self, Parts},
        in_memory,
    },
    server::{Endpoint, monitor::Connections, serve},
    task::Tasks,
    testing::{Authority, Workload},
    transport::{Address, Caller, Dialer, Identity, Listener, Wire},
};
use tokio::{sync::watch, time::Instant};
use tower::layer::util::Identity as PassesOn;

use crate::spans;

/// Ok if a promise holds, otherwise a description of the observed behaviour.
pub(crate) type Checked = std::result::Result<(), String>;

/// One of the two chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Endpoint,
    Client,
}

pub(crate) const MTU: u32 = 1400;
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(5);

pub(crate) struct Rig {
    pub(crate) parts: Parts,
    pub(crate) linux: Memory,
    pub(crate) lb: LoadBalancer,
    pub(crate) version: Version,
    pub(crate) spans: spans::Names,
    /// The chain that calls load balancers, from inside the proxy.
    pub(crate) proxy: Next,
    /// Both chains as printed.
    pub(crate) printed: (String, String),
    /// The target's last wire.
    pub(crate) wire: LastWire,
    _bridge: Lease,
    socket: Address,
    target: Identity,
    _folder: tempfile::TempDir,
}

/// The purpose of a rig.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) side: Side,
    pub(crate) row: &'static str,
    /// Whether the row is removed.
    pub(crate) removed: bool,
}

impl Setup {
    fn is_for(&self, side: Side, row: &str) -> bool {
        self.side == side && self.row == row
    }

    /// The chain of one side, without the row if it is that side's.
    fn cut(&self, side: Side, chain: Chain) -> Chain {
        match self.row {
            _ if !self.removed || self.side != side => chain,
            Connect::NAME => chain.end(Tail),
            row => chain.replace(row, Named(row, PassesOn::new())), // others need a row of its name
        }
    }
}

impl Rig {
    pub(crate) async fn new(setup: Setup, spans: spans::Names) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::default();
        let authority = Authority::new("rows.test");
        let identity = async |pod: &str| {
            let workload = Workload::listen(folder.path().join(format!("{pod}.agent"))).unwrap();
            workload.grant(authority.issue(&authority.pod("default", pod), LONG));
            let follow = Identity::follow(&workload.url(), &tasks);
            Identity::fixed(follow.ready(Instant::now() + Duration::from_secs(10)).await.unwrap())
        };
        let proxy = identity("px").await;
        let target = identity("target").await;
        let balancer = identity("lb").await;
        let socket = |name: &str| Address::Unix(folder.path().join(name));

        let lb = LoadBalancer::default();
        let chain = lb.chain(&setup, &tasks);
        serve_chain(&socket("lb"), balancer, chain, &lb.0.connections, &tasks).await;

        let linux = Memory::default();
        let kernel = kernel::Settings::of("trench", "conduit", "node");
        let kernel = Kernel::start(kernel, linux.clone(), &tasks);
        let in_memory = in_memory::parts("px", &tasks).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let bridge = in_memory.leases.acquire(BRIDGE, deadline).await.unwrap();
        let gateways = bridge.addresses();
        kernel.set_gateways(gateways);
        kernel.set_vips(&["20.0.0.1/32".parse().unwrap()]);
        let parts = Parts {
            token_lifetime: LONG,
            mtu: MTU,
            kernel,
            gateways: watch::channel(gateways.into()).1,
            dialer: dialer(&socket("lb"), proxy.clone(), LONG),
            ..in_memory
        };
        let endpoint = chains::endpoint(&parts);
        let client = chains::client(&parts);
        let printed = (endpoint.to_string(), client.to_string());
        let version = Version::default();
        let endpoint = setup.cut(Side::Endpoint, endpoint).with(version.clone()).build().unwrap();
        serve_chain(&socket("px"), proxy, endpoint, &parts.connections, &parts.tasks).await;
        let proxy = setup.cut(Side::Client, client).with(version.clone()).build().unwrap();
        let socket = socket("px");
        let wire = LastWire::default();
        Self {
            parts,
            linux,
            lb,
            version,
            spans,
            proxy,
            printed,
            wire,
            _bridge: bridge,
            socket,
            target,
            _folder: folder,
        }
    }

    /// The chain of a target whose tokens have this lifetime.
    pub(crate) fn target(&self, lifetime: Duration) -> Next {
        let dialer = self.dialer(lifetime);
        let chain = Chain::new()
            .with(UpdatePath::new("target"))
            .with(BeginLayer::client(self.parts.tasks.clone()))
            .with(MetadataLayer)
            .with(self.wire.clone())
            .end(Connect::new(dialer).keep_descriptors());
        chain.build().unwrap()
    }

    /// The dialer of a target to the proxy.
    pub(crate) fn dialer(&self, token_lifetime: Duration) -> Dialer {
        dialer(&self.socket, self.target.clone(), token_lifetime)
    }

    /// Adds a link to the kernel, and waits until it is a port.
    pub(crate) async fn becomes_port(&self, name: &str) -> Checked {
        self.linux.add_link(name, None);
        let mut status = self.parts.kernel.status();
        let port = status.wait_for(|status| status.ports.iter().any(|port| port.as_str() == name));
        match tokio::time::timeout(Duration::from_secs(3), port).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!("`{name}` is not a port: {:?}", self.parts.kernel.status().borrow().ports)),
        }
    }

    pub(crate) async fn end(self) {
        self.parts.tasks.stop().await;
    }
}

/// A Request for a connection with this id, and a kernel interface as the only preference.
pub(crate) fn request(id: &str) -> Request {
    let mut connection = Connection::named(id);
    connection.network_service = "load-balancer.trench.default".into();
    connection.payload = "ETHERNET".into();
    let mut request = Request::new(connection);
    request.preferences = vec![Mechanism::local(MechanismKind::Kernel)];
    request
}

/// The answer, or the error as text.
pub(crate) async fn ask(chain: &Next, request: Request) -> std::result::Result<Box<Connection>, String> {
    chain.request(request).await.map_err(|error| error.to_string())
}

/// Ok if true, otherwise a description of the observed behaviour.
pub(crate) fn holds(truth: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if truth { Ok(()) } else { Err(otherwise()) }
}

/// Waits for at most three seconds until a condition is true.
pub(crate) async fn eventually(
    mut truth: impl FnMut() -> bool,
    otherwise: impl FnOnce() -> String,
) -> Checked {
    for _ in 0..300 {
        if truth() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(otherwise())
}

fn dialer(target: &Address, identity: Identity, token_lifetime: Duration) -> Dialer {
    Dialer { address: target.clone(), identity, dial_timeout: Duration::from_secs(5), token_lifetime }
}

async fn serve_chain(
    target: &Address,
    identity: Identity,
    chain: Next,
    connections: &Connections,
    tasks: &Tasks,
) {
    let listener = Listener::bind(target, identity).await.unwrap().keep_descriptors();
    let routes = Endpoint::new(chain, connections.clone()).routes();
    tasks.spawn(serve(listener, routes, pending(), Duration::ZERO));
}

/// The calls that the load balancer received, and the connections that it reports.
#[derive(Clone, Default)]
pub(crate) struct LoadBalancer(Arc<Inner>);

#[derive(Default)]
struct Inner {
    seen: Mutex<Vec<Seen>>,
    connections: Connections,
}

#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) connection: Connection,
    pub(crate) preferences: Vec<Mechanism>,
    pub(crate) descriptor: bool,
}

impl LoadBalancer {
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    /// Reports the last connection as down to its monitors.
    pub(crate) fn down(&self) {
        let id = self.seen().last().map(|seen| seen.connection.id.clone()).unwrap_or_default();
        self.0.connections.down(&id);
    }

    /// An endpoint. It does not sign if that is tested, and its tokens are short if refreshes are.
    fn chain(&self, setup: &Setup, tasks: &Tasks) -> Next {
        let lifetime = if setup.is_for(Side::Client, "refresh") { SHORT } else { LONG };
        let chain = Chain::new()
            .with(UpdatePath::new("lb"))
            .with(UpdateToken::new(lifetime))
            .with(authorize::Endpoint)
            .with(BeginLayer::endpoint(tasks.clone()))
            .with(MetadataLayer)
            .with(Monitor::new(self.0.connections.clone()))
            .with(TrimPath::default())
            .with(self.clone())
            .with(mechanism::Endpoint::new(Names::new(|_| false)));
        let unsigned = setup.is_for(Side::Client, "authorize");
        let chain = if unsigned { chain.without("update_token").without("authorize") } else { chain };
        chain.build().unwrap()
    }
}

impl Element for LoadBalancer {
    const NAME: &'static str = "load_balancer";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let hub = request.context.extensions.get::<Caller>().and_then(|caller| caller.hub.clone());
        let inode = request.preferences.first().and_then(Mechanism::inode);
        let wait = Instant::now() + Duration::from_secs(1);
        let descriptor = match (hub, inode) {
            (Some(hub), Some(inode)) => hub.take(inode, wait).await.is_some(),
            _ => false,
        };
        let connection = (*request.connection).clone();
        let preferences = request.preferences.clone();
        self.0.seen.lock().unwrap().push(Seen { connection, preferences, descriptor });
        next.request(request).await
    }
}

/// Stores a version in the scope of every call, records the one it found, and fails on demand.
#[derive(Clone, Default)]
pub(crate) struct Version(Arc<Mutex<(usize, usize)>>, Arc<AtomicBool>);

struct Stored(usize);

impl Version {
    /// The version that the last call found.
    pub(crate) fn found(&self) -> usize {
        self.0.lock().unwrap().1
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.1.store(fails, SeqCst);
    }
}

impl Element for Version {
    const NAME: &'static str = "version";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = &request.context.scope;
        let found = scope.get::<Stored>().map_or(0, |stored| stored.0);
        let version = {
            let mut versions = self.0.lock().unwrap();
            *versions = (versions.0 + 1, found);
            versions.0
        };
        scope.insert(Stored(version));
        if self.1.load(SeqCst) {
            return Err(Reason::Refused("as the test wants".into()).into());
        }
        next.request(request).await
    }
}

/// Keeps the wire of the last Request.
#[derive(Clone, Default)]
pub(crate) struct LastWire(Arc<Mutex<Option<Wire>>>);

impl LastWire {
    pub(crate) fn get(&self) -> Option<Wire> {
        self.0.lock().unwrap().clone()
    }
}

impl Element for LastWire {
    const NAME: &'static str = "last_wire";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let answer = next.request(request).await?;
        *self.0.lock().unwrap() = scope.get::<Wire>().map(|wire| (*wire).clone());
        Ok(answer)
    }
}
