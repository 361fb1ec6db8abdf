// SPDX-License-Identifier: Apache-2.0

//! Prepares calls for elements under test: a path, tokens, a mechanism.

use std::{
    fs,
    io::Read,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tower::{Service, layer::layer_fn};
use tower_layer::Layer;

use crate::{
    api::{Connection, Inode, Mechanism, MechanismKind, Path, PathSegment, parameter},
    chain::{Call, CallContext, Chain, Close, Element, Next, Request, Result},
    server::{self, monitor::Connections},
    testing::Authority,
    transport::{Address, Caller, Dialer, FdHub, Listener, Peer},
};

/// An element whose calls a function prepares first.
pub struct Given<E, F>(pub E, pub F);

impl<E: Element, F: Fn(&mut Connection, &mut CallContext) + Send + Sync + 'static> Element for Given<E, F> {
    const NAME: &'static str = E::NAME;

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        (self.1)(&mut request.connection, &mut request.context);
        self.0.request(request, next).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        (self.1)(&mut close.connection, &mut close.context);
        self.0.withdraw(&close);
        self.0.close(close, next).await
    }
}

/// A path whose segments expire so many seconds from now; `None` is a segment without an expiry.
/// Segment 0 has the connection's id.
pub fn path(connection: &mut Connection, index: u32, expiries: &[Option<u64>]) {
    let path_segments = expiries
        .iter()
        .enumerate()
        .map(|(at, expires)| PathSegment {
            name: format!("hop{at}"),
            id: if at == index as usize { connection.id.clone() } else { format!("id{at}") },
            expires: expires
                .map(|seconds| (std::time::SystemTime::now() + Duration::from_secs(seconds)).into()),
            ..PathSegment::default()
        })
        .collect();
    connection.path = Some(Path { index, path_segments });
}

/// A kernel interface in the network namespace of an inode.
pub fn kernel(inode: Inode) -> Mechanism {
    let mut mechanism = Mechanism::local(MechanismKind::Kernel);
    mechanism.parameters.insert(parameter::INODE_URL.into(), inode.to_string());
    mechanism
}

/// A file, and the number of its descriptors that are open in this process.
#[derive(Clone)]
pub struct Counted(Arc<OwnedFd>);

impl Default for Counted {
    fn default() -> Self {
        Self(Arc::new(UnixStream::pair().unwrap().0.into()))
    }
}

impl Counted {
    /// A new file with one descriptor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Inode of the file.
    pub fn inode(&self) -> Inode {
        Inode::of(&self.0).unwrap()
    }

    /// One more descriptor.
    pub fn descriptor(&self) -> OwnedFd {
        self.0.try_clone().unwrap()
    }

    /// A hub at which one more descriptor arrives after three milliseconds.
    pub fn arriving(&self) -> Arc<FdHub> {
        let hub = Arc::new(FdHub::default());
        let descriptor = self.descriptor();
        let arrives = Arc::clone(&hub);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            arrives.store(descriptor);
        });
        hub
    }

    /// Number of descriptors of the file that are open in this process.
    pub fn open(&self) -> usize {
        let own = self.inode();
        let all = fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|entry| {
            entry.as_ref().is_ok_and(|entry| {
                fs::metadata(entry.path()).is_ok_and(|file| (file.dev(), file.ino()) == (own.dev, own.ino))
            })
        })
        .count()
    }
}

/// A caller without descriptors and without a token.
pub fn caller() -> Caller {
    let authority = Authority::new("test.domain");
    let peer = Arc::new(Peer::of(&authority.leaf("client").certificate).unwrap());
    Caller { hub: None, svid: authority.svid("endpoint"), peer, token: None }
}

/// A peer on a unix socket, and its dialer.
pub struct Served {
    /// Dials the peer, as another identity of its trust domain.
    pub dialer: Dialer,
    _server: AbortOnDropHandle<()>,
    _folder: TempDir,
}

/// Serves a chain over mTLS to one client.
pub async fn serve(chain: Next) -> Served {
    serve_monitored(chain, Connections::default()).await
}

/// Serves a chain, and the connections that it publishes.
pub async fn serve_monitored(chain: Next, connections: Connections) -> Served {
    serve_routes(server::Endpoint::new(chain, connections).routes()).await
}

/// Serves any routes.
pub async fn serve_routes(routes: Routes) -> Served {
    let authority = Authority::new("test.domain");
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("peer.sock"));
    let listener = Listener::bind(&address, authority.identity("peer")).await.unwrap();
    let listener = listener.keep_descriptors();
    let server = tokio::spawn(server::serve(listener, routes, std::future::pending(), Duration::ZERO));
    let dial_timeout = Duration::from_secs(5);
    let token_lifetime = Duration::from_secs(600);
    let dialer = Dialer { address, identity: authority.identity("client"), dial_timeout, token_lifetime };
    Served { dialer, _server: AbortOnDropHandle::new(server), _folder: folder }
}

/// A peer that calls the service put below it last, and sends a descriptor with each answer, which
/// names it.
#[derive(Clone, Default)]
pub struct Below {
    next: Arc<Mutex<Option<Next>>>,
    sent: Arc<Mutex<Vec<(Inode, UnixStream)>>>, // with our ends, which detect that the other ends are closed
}

impl Below {
    /// Serves it over mTLS.
    pub async fn served(&self) -> Served {
        self.served_below(Chain::new(), Connections::default()).await
    }

    /// Serves it below some rows, with the connections that it publishes.
    pub async fn served_below(&self, rows: Chain, connections: Connections) -> Served {
        let below = self.clone();
        let end = tower::service_fn(move |call| below.clone().answer(call));
        serve_monitored(rows.end(end).build().unwrap(), connections).await
    }

    async fn answer(self, call: Call) -> Result<Box<Connection>> {
        let hub = call.context().extensions.get::<Caller>().unwrap().hub.clone().unwrap();
        let mut next = self.next.lock().unwrap().clone().unwrap();
        let mut answer = next.call(call).await?;
        let (sent, kept) = UnixStream::pair().unwrap();
        kept.set_nonblocking(true).unwrap();
        let inode = Inode::of(&sent).unwrap();
        self.sent.lock().unwrap().push((inode, kept));
        hub.send(Arc::new(sent.into())).unwrap();
        answer.mechanism = Some(kernel(inode));
        Ok(answer)
    }

    /// Layer for the laws: a service that calls this peer, above the inner service of the laws.
    pub fn under<S, F: Fn() -> S>(&self, service: F) -> impl Layer<Next, Service = S> + use<S, F> {
        let next = Arc::clone(&self.next);
        layer_fn(move |inner| {
            *next.lock().unwrap() = Some(inner);
            service()
        })
    }

    /// Number of descriptors that were sent and are still open.
    pub fn open(&self) -> usize {
        self.sent.lock().unwrap().iter().filter(|(_, end)| (&mut &*end).read(&mut [0]).is_err()).count()
    }

    /// The descriptor that was sent last.
    pub fn last(&self) -> Option<Inode> {
        self.sent.lock().unwrap().last().map(|(inode, _)| *inode)
    }
}
