// SPDX-License-Identifier: Apache-2.0

//! Calls a peer over one physical connection that cannot reconnect.
//!
//! Descriptors, the peer's certificate and the key that signs tokens belong to one connection. A
//! [`Wire`] holds them together: descriptors of a call leave over the connection of the call, or
//! not at all. It lies under the generated clients: `NetworkServiceClient::new(wire.clone())`. Each
//! call has a span, whose W3C trace context goes with it.
//!
//! # Close
//! The connection is closed when the last clone of the `Wire` and the last answer that is still
//! being read are dropped.

mod answer;
mod driver;
#[cfg(test)]
mod tests;

use std::{sync::Arc, task::Poll, time::Duration};

use futures::future::BoxFuture;
use http::{Uri, uri::PathAndQuery};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tonic::{Request, Status, body::Body};
use tower::BoxError;
use tracing::{Instrument, Span};

pub use self::driver::Ended;
use self::{
    answer::Limit,
    driver::{Driver, Spawn},
};
use super::{
    fd::{FdHub, SendFds},
    identity::{Peer, Svid},
    token, trace_context,
};

/// Maximum size of a received header list, in bytes: a registry path carries one token for each
/// hop.
pub(crate) const MAX_HEADER_LIST: u32 = 64 * 1024;

/// Timeout of the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Scheme and authority of all calls: Go's servers accept any, and expect `localhost` over unix
/// sockets.
pub fn origin() -> Uri {
    Uri::from_static("http://localhost")
}

/// One physical connection to a peer: mTLS and HTTP/2 over a unix or TCP stream. Clones share it.
#[derive(Clone)]
pub struct Wire {
    sender: SendRequest<Body>,
    driver: Arc<Driver>,
    hub: Option<Arc<FdHub>>,
    svid: Arc<Svid>,
    peer: Arc<Peer>,
}

impl Wire {
    /// A wire over a stream whose TLS handshake is done. Pings each `keepalive` while calls or
    /// streams are open.
    ///
    /// # Errors
    /// Those of HTTP/2.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        hub: Option<Arc<FdHub>>,
        svid: Arc<Svid>,
        peer: Peer,
        keepalive: Option<Duration>,
    ) -> hyper::Result<Self> {
        let spawn = Spawn::default();
        let mut builder = Builder::new(spawn.clone());
        builder.timer(TokioTimer::new()).max_header_list_size(MAX_HEADER_LIST);
        builder.keep_alive_interval(keepalive).keep_alive_timeout(PING_TIMEOUT);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Arc::new(Driver::run(spawn, connection)), hub, svid, peer: Arc::new(peer) })
    }

    /// The peer, from its certificate.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The SVID that the peer verified.
    pub fn svid(&self) -> &Arc<Svid> {
        &self.svid
    }

    /// Descriptors beside this connection; `None` over TCP.
    pub fn hub(&self) -> Option<&Arc<FdHub>> {
        self.hub.as_ref()
    }

    /// Waits until the connection is closed, by either side; returns how it ended.
    pub async fn closed(&self) -> Ended {
        self.driver.closed().await
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// A call for this peer: with a new token of this `lifetime` and, unless it opens a stream, a
    /// deadline. The deadline is sent as `grpc-timeout`, and enforced here half a second later than
    /// the peer should.
    ///
    /// # Errors
    /// `DeadlineExceeded` if the deadline has passed; `Internal` if the token cannot be signed.
    pub fn call<M>(
        &self,
        message: M,
        deadline: Option<Instant>,
        lifetime: Duration,
    ) -> Result<Request<M>, Status> {
        let token = token::issue(&self.svid, &self.peer, lifetime);
        let token = token.map_err(|unsigned| Status::internal(unsigned.to_string()))?;
        let mut request = Request::new(message);
        token.attach(request.metadata_mut());
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Status::deadline_exceeded("the deadline had passed before the call"));
            }
            request.set_timeout(left);
            request.extensions_mut().insert(Limit(deadline));
        }
        Ok(request)
    }
}

impl tower::Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.sender.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        complete(request.uri_mut());
        let limit = request.extensions_mut().remove::<Limit>();
        // Queued before the headers of the call are written: they leave with their first byte, or
        // earlier.
        let queued = match (request.extensions_mut().remove::<SendFds>(), &self.hub) {
            (None, _) => Ok(None),
            (Some(fds), Some(hub)) => {
                hub.queue(&fds).map(Some).map_err(|error| Status::resource_exhausted(error.to_string()))
            }
            (Some(_), None) => Err(Status::failed_precondition("descriptors pass over unix sockets only")),
        };
        let queued = match queued {
            Ok(queued) => queued,
            Err(status) => return Box::pin(std::future::ready(Err(status.into()))),
        };
        let span = span(request.uri().path());
        trace_context::inject(&span, request.headers_mut());
        let response = self.sender.send_request(request);
        Box::pin(answer::receive(response, queued, limit, Arc::clone(&self.driver)).instrument(span))
    }
}

/// The span of one RPC, from its headers to those of its answer, named and described by
/// OpenTelemetry's conventions for gRPC.
fn span(path: &str) -> Span {
    let name = path.trim_start_matches('/');
    let (service, method) = name.rsplit_once('/').unwrap_or((name, ""));
    tracing::debug_span!(
        "rpc",
        otel.name = name,
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method
    )
}

/// HTTP/2 needs scheme and authority; generated clients without an origin give only the path.
fn complete(uri: &mut Uri) {
    if uri.authority().is_some() {
        return;
    }
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = origin().into_parts();
    parts.path_and_query = Some(path);
    if let Ok(complete) = Uri::from_parts(parts) {
        *uri = complete;
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("peer", &self.peer.id())
            .field("svid", &self.svid)
            .finish_non_exhaustive()
    }
}
