// SPDX-License-Identifier: Apache-2.0

//! Serve gRPC on accepted connections, and end in bounded time.
//!
//! A connection whose place another needs, or that does nothing for too long, is asked to go, and cut
//! soon after; see [`Seat`](crate::transport::listen::Seat).
//!
//! Shutdown in order: no new connections; [`Stopping`] tells the streams to end; peers are told to send no new calls; calls that are
//! being worked on have until the drain deadline; whatever is left then is cut. Every task of the server has ended when it returns,
//! and is cut when its future is dropped.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use hyper::{body::Incoming, rt::Executor, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use tonic::{body::Body, service::Routes};
use tower_service::Service;

use super::authority::Acceptable;
use crate::transport::listen::{Accepted, Calls};

/// Header list of one call in bytes: tokens of a registration's hops and of the caller.
pub const HEADERS: u32 = 64 << 10;
/// Calls and streams open at once on one connection.
pub const STREAMS: u32 = 256;

/// The same on one without mTLS: a probe makes one.
const PLAIN_STREAMS: u32 = 16;
/// How long a connection that is asked to go may take.
const LINGER: Duration = Duration::from_millis(250);

/// Tells a call that its server stops; in the extensions of every request. Streams end when it does.
#[derive(Clone, Debug, Default)]
pub struct Stopping(CancellationToken);

impl Stopping {
    /// The signal for a call; one that never comes if the call arrived over another server.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Wait until the server stops.
    pub fn stopped(self) -> WaitForCancellationFutureOwned {
        self.0.cancelled_owned()
    }
}

/// Serve until `stop` completes or the listener ends, then drain for at most `drain`.
///
/// Each connection's [`Caller`](crate::transport::Caller) is in the extensions of its requests. Errors of single connections are
/// logged.
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
                Ok(connection) => self.spawn.execute(self.clone().connection(connection)),
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }

    async fn connection(self, Accepted { stream, caller, mut seat }: Accepted) {
        let streams = if caller.is_some() { STREAMS } else { PLAIN_STREAMS };
        let stopping = self.stopping.clone();
        let service = service_fn(|mut request: http::Request<Incoming>| {
            caller.clone().map(|caller| request.extensions_mut().insert(caller));
            request.extensions_mut().insert(self.stopping.clone());
            let mut services = self.services.clone();
            async move {
                Ok::<http::Response<Body>, Infallible>(
                    services.call(request).await.unwrap_or_else(|never| match never {}),
                )
            }
        });
        let mut builder = Builder::new(SpawnCalls { spawn: self.spawn.clone(), calls: seat.calls() });
        builder.timer(TokioTimer::new()).max_header_list_size(HEADERS).max_concurrent_streams(streams);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(Acceptable::new(stream)), service));
        let result = tokio::select! {
            result = &mut serving => result,
            () = stopping.stopped() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
            () = seat.unwanted() => {
                serving.as_mut().graceful_shutdown();
                timeout(LINGER, serving).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
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

/// Runs the tasks of connections and calls; a cut ends them all.
#[derive(Clone, Default)]
struct Spawn {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, work: F) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            let _finished = cut.run_until_cancelled(work).await;
        });
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
        self.spawn.execute(async move {
            work.await;
            drop(calling);
        });
    }
}
