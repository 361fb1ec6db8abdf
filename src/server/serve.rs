// SPDX-License-Identifier: Apache-2.0

//! Serves gRPC on accepted connections, and ends in bounded time.
//!
//! A connection whose place another needs, or that is inactive for too long, is asked to go, and
//! cut soon after; see [`Seat`].
//!
//! Shutdown in order: no new connections; [`Stopping`] ends the streams; peers are asked to send no
//! new calls; calls in progress have until the drain deadline; the rest is then cut. Every task of
//! the server has ended when it returns, and is cut when its future is dropped.

use std::{
    io,
    pin::{Pin, pin},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::http2::{Builder, Connection},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::{
    either::Either,
    future::FutureExt as _,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use tonic::service::Routes;
use tower_service::Service;

use super::authority::Acceptable;
use crate::transport::{
    address::Socket,
    caller::Caller,
    listen::{Accepted, Calls, Seat},
};

/// Maximum size of the header list of one call in bytes: tokens of a registration's hops and of the
/// caller.
pub(crate) const HEADERS: u32 = 64 << 10;
/// Maximum number of calls and streams open at once on one connection.
pub(crate) const STREAMS: u32 = 256;

/// The same on one without mTLS: a probe makes one.
const PLAIN_STREAMS: u32 = 16;
/// Time for a connection to end after it was asked to.
const LINGER: Duration = Duration::from_millis(250);

/// Notifies a call that its server stops; in the extensions of every request. Streams end when it
/// does.
#[derive(Clone, Debug, Default)]
pub struct Stopping(CancellationToken);

impl Stopping {
    /// The signal for a call; one that never comes if the call arrived over another server.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Waits until the server stops.
    pub fn stopped(self) -> WaitForCancellationFutureOwned {
        self.0.cancelled_owned()
    }
}

/// Serves until `stop` completes or the listener ends, then drains for at most `drain`.
///
/// Each connection's [`Caller`] is in the extensions of its requests. Errors of single connections
/// are logged.
pub async fn serve(
    listener: impl Stream<Item = io::Result<Accepted>>,
    services: Routes,
    stop: impl Future<Output = ()>,
    drain: Duration,
) {
    let server = Server { services: services.prepare(), ..Server::default() };
    let _cut_if_dropped = server.spawn.cut.clone().drop_guard();
    tokio::select! {
        () = server.accept(listener) => {}
        () = stop => {}
    }
    server.end(drain).await;
}

#[derive(Clone, Default)]
struct Server {
    services: Routes,
    stopping: Stopping,
    spawn: Spawn,
}

impl Server {
    async fn accept(&self, listener: impl Stream<Item = io::Result<Accepted>>) {
        let mut listener = pin!(listener);
        while let Some(accepted) = listener.next().await {
            match accepted {
                Ok(connection) => {
                    self.spawn.execute(self.clone().open(connection).serve(self.stopping.clone()))
                }
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }

    fn open(self, Accepted { stream, caller, seat }: Accepted) -> Open {
        let streams = if caller.is_some() { STREAMS } else { PLAIN_STREAMS };
        let mut builder = Builder::new(SpawnCalls { spawn: self.spawn, calls: seat.calls() });
        builder.timer(TokioTimer::new()).max_header_list_size(HEADERS).max_concurrent_streams(streams);
        let services = Services { routes: self.services, caller, stopping: self.stopping };
        let serving = builder.serve_connection(TokioIo::new(Acceptable::new(stream)), services);
        Open { serving: Box::pin(serving), seat }
    }

    async fn end(self, drain: Duration) {
        self.stopping.0.cancel();
        let Spawn { tracker, cut } = &self.spawn;
        tracker.close();
        if timeout(drain, tracker.wait()).await.is_err() {
            tracing::warn!(tasks = tracker.len(), ?drain, "not drained in time, cutting what is left");
        }
        cut.cancel();
        tracker.wait().await;
    }
}

/// The services that the calls of one connection reach.
struct Services {
    routes: Routes,
    caller: Option<Caller>,
    stopping: Stopping,
}

impl hyper::service::Service<http::Request<Incoming>> for Services {
    type Response = <Routes as Service<http::Request<Incoming>>>::Response;
    type Error = <Routes as Service<http::Request<Incoming>>>::Error;
    type Future = <Routes as Service<http::Request<Incoming>>>::Future;

    fn call(&self, mut request: http::Request<Incoming>) -> Self::Future {
        self.caller.clone().map(|caller| request.extensions_mut().insert(caller));
        request.extensions_mut().insert(self.stopping.clone());
        self.routes.clone().call(request)
    }
}

/// An open connection. It is dropped before its seat.
struct Open {
    /// Boxed, because each future around it would reserve its size again.
    serving: Pin<Box<Serving>>,
    seat: Seat,
}

type Serving = Connection<TokioIo<Acceptable<Either<TlsStream<Socket>, Socket>>>, Services, SpawnCalls>;

impl Open {
    async fn serve(mut self, stopping: Stopping) {
        let result = tokio::select! {
            result = &mut self.serving => result,
            () = stopping.stopped() => {
                self.serving.as_mut().graceful_shutdown();
                self.serving.await
            }
            () = self.seat.unwanted() => {
                self.serving.as_mut().graceful_shutdown();
                timeout(LINGER, self.serving).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// Runs the tasks of connections and calls; a cut ends them all.
#[derive(Clone, Default)]
struct Spawn {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, work: F) {
        self.tracker.spawn(work.with_cancellation_token_owned(self.cut.clone()));
    }
}

/// Runs the calls of one connection, and counts them.
#[derive(Clone)]
struct SpawnCalls {
    spawn: Spawn,
    calls: Calls,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for SpawnCalls {
    fn execute(&self, work: F) {
        let calling = self.calls.begin();
        self.spawn.execute(work.map(move |()| drop(calling)));
    }
}
