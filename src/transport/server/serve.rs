// SPDX-License-Identifier: Apache-2.0

//! Serve gRPC on accepted connections, and end in bounded time.
//!
//! Shutdown in order: no new connections; [`Stopping`] tells the streams to end; peers are told to send no new calls; calls that are
//! being worked on have until the drain deadline; whatever is left then is cut. Every task of the server has ended when it returns,
//! and is cut when its future is dropped.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use hyper::{body::Incoming, rt::Executor, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use tonic::{body::Body, service::Routes, transport::server::Connected};
use tower_service::Service;

/// Header list of one call in bytes: tokens of a registration's hops and of the caller.
pub const HEADERS: u32 = 64 << 10;
/// Calls and streams open at once on one connection.
pub const STREAMS: u32 = 256;

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
/// Each connection's [`ConnectInfo`](Connected::ConnectInfo) is in the extensions of its requests. Errors of single connections are
/// logged.
pub async fn serve<L, A>(listener: L, services: Routes, stop: impl Future<Output = ()>, drain: Duration)
where
    L: Stream<Item = io::Result<A>>,
    A: Connected + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
    async fn accept<L, A>(&self, listener: L)
    where
        L: Stream<Item = io::Result<A>>,
        A: Connected + AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut listener = pin!(listener);
        while let Some(accepted) = listener.next().await {
            match accepted {
                Ok(connection) => self.spawn.execute(self.clone().connection(connection)),
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }

    async fn connection<A>(self, connection: A)
    where
        A: Connected + AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (info, stopping) = (connection.connect_info(), self.stopping.clone());
        let service = service_fn(|mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(info.clone());
            request.extensions_mut().insert(self.stopping.clone());
            let mut services = self.services.clone();
            async move {
                Ok::<http::Response<Body>, Infallible>(
                    services.call(request).await.unwrap_or_else(|never| match never {}),
                )
            }
        });
        let mut builder = Builder::new(self.spawn.clone());
        builder.timer(TokioTimer::new()).max_header_list_size(HEADERS).max_concurrent_streams(STREAMS);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
        let result = tokio::select! {
            result = &mut serving => result,
            () = stopping.stopped() => {
                serving.as_mut().graceful_shutdown();
                serving.await
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
