// SPDX-License-Identifier: Apache-2.0

//! A proxy's edge beside a Workload API, with an endpoint to call.

use std::{sync::Arc, time::Duration};

use meridio_proxy::{
    api::{
        Connection, Mechanism,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    },
    chain::{Call, Chain, Element, Error, Next, Reason, Request, Result, Tasks},
    lab::{Authority, Workload},
    transport::{
        Caller, Dialer, Identity, Listener, Target, Wire,
        monitor::{Connections, Limits},
        server::{Endpoint, serve},
        token,
    },
};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) tasks: Tasks,
}

/// An endpoint that is served until it is dropped.
pub(crate) struct Served {
    pub(crate) target: Target,
    _server: AbortOnDropHandle<()>,
}

/// A moment by which everything that a test waits for has happened.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

impl World {
    pub(crate) fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("a.test").unwrap());
        Self { folder, authority, tasks: Tasks::default() }
    }

    pub(crate) fn target(&self, name: &str) -> Target {
        Target::Unix(self.folder.path().join(format!("{name}.sock")))
    }

    /// The Workload API of a pod, which has no identity yet.
    pub(crate) fn workload(&self, pod: &str) -> Workload {
        Workload::listen(self.folder.path().join(format!("{pod}.agent.sock"))).unwrap()
    }

    pub(crate) fn grant(&self, workload: &Workload, pod: &str) {
        workload.grant(self.authority.issue(&self.authority.pod("default", pod), HOUR).unwrap());
    }

    pub(crate) fn follow(&self, workload: &Workload) -> Identity {
        Identity::follow(&workload.url(), &self.tasks)
    }

    /// The identity of a pod that has one.
    pub(crate) async fn identity(&self, pod: &str) -> Identity {
        let workload = self.workload(pod);
        self.grant(&workload, pod);
        Identity::fixed(self.follow(&workload).ready(soon()).await.unwrap())
    }

    pub(crate) fn dialer(&self, target: &Target, identity: Identity) -> Dialer {
        let (dial_timeout, token_lifetime) = (Duration::from_secs(5), Duration::from_secs(600));
        Dialer { target: target.clone(), identity, dial_timeout, token_lifetime }
    }

    /// Serve a chain that verifies the caller's token and claims the descriptor that a mechanism names.
    pub(crate) async fn serve(&self, name: &str) -> Served {
        let target = self.target(name);
        let listener = Listener::bind(&target, self.identity(name).await).await.unwrap();
        let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
        let chain = Chain::new().with(Verify).with(Claim).build(end).unwrap();
        let routes = Endpoint::new(chain, Connections::new(Limits::default())).routes();
        let server = tokio::spawn(serve(listener, routes, std::future::pending(), Duration::ZERO));
        Served { target, _server: AbortOnDropHandle::new(server) }
    }
}

struct Verify;
impl Element for Verify {
    const NAME: &'static str = "verify";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let caller: Caller = request.context.extensions.get().cloned().unwrap();
        let path = request.connection.path_mut();
        let own = token::issue(&caller.svid, &caller.peer, HOUR).unwrap();
        path.path_segments.truncate(1);
        path.path_segments[0].token = caller.token.map(|token| token.jwt().to_owned()).unwrap_or_default();
        path.path_segments
            .push(meridio_proxy::api::PathSegment { token: own.jwt().into(), ..Default::default() });
        let now = std::time::SystemTime::now();
        token::verify_received(&path.path_segments, &caller.peer, now)
            .map_err(|denied| Reason::Denied(denied.to_string()))?;
        next.request(request).await
    }
}

struct Claim;
impl Element for Claim {
    const NAME: &'static str = "claim";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let hub = request.context.extensions.get::<Caller>().and_then(|caller| caller.hub.clone());
        if let (Some(inode), Some(hub)) =
            (request.connection.mechanism.as_ref().and_then(Mechanism::inode), hub)
        {
            let wait = request.context.deadline - Duration::from_millis(200);
            let late = || Reason::Unavailable(format!("the descriptor {inode} did not come"));
            hub.take(inode, wait).await.ok_or_else(late)?;
        }
        next.request(request).await
    }
}

/// A Request of one segment.
pub(crate) fn message(mechanism: Option<Mechanism>) -> NetworkServiceRequest {
    let mut connection = Connection { mechanism, ..*Connection::named("a") };
    connection.path_mut().path_segments = vec![Default::default()];
    NetworkServiceRequest { connection: Some(connection), mechanism_preferences: Vec::new() }
}

pub(crate) async fn send(
    wire: &Wire,
    request: tonic::Request<NetworkServiceRequest>,
) -> Result<Connection, tonic::Status> {
    Ok(NetworkServiceClient::new(wire.clone()).request(request).await?.into_inner())
}

/// A call that must succeed: the wire and the endpoint are as they were.
pub(crate) async fn works(wire: &Wire) {
    send(wire, wire.call(message(None), Some(soon()), HOUR).unwrap()).await.unwrap();
}

/// An `Arc` of something that can be sent.
pub(crate) fn file() -> Arc<std::os::fd::OwnedFd> {
    Arc::new(std::io::pipe().unwrap().1.into())
}
