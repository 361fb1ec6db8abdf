// SPDX-License-Identifier: Apache-2.0
//! Serves HTTP/1 on accepted connections within bounds.
//!
//! A connection has one request and a fixed time, so a client that reads or writes slowly holds
//! nothing for longer. After the answer, a bounded rest of the request is read: closing
//! at once would reset the connection, and the client might lose the answer.

use std::{io, pin::pin, time::Duration};

use axum::Router;
use futures::{Stream, StreamExt};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    task::JoinSet,
    time::timeout,
};
use tower::ServiceExt;

use crate::{
    task::{Task, Tasks},
    transport::Accepted,
};

/// Bounds of time of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For the header of the request.
    pub(super) header: Duration,
    /// From its first byte to its end.
    pub(super) whole: Duration,
}

const TIMES: Times = Times { header: Duration::from_secs(5), whole: Duration::from_secs(10) };
/// Maximum size of the header of a request, in bytes.
const MAX_HEADER: usize = 16 << 10;
/// Maximum number of header fields.
const MAX_FIELDS: usize = 64;
/// Time for the body of a request.
pub(super) const BODY_TIME: Duration = Duration::from_secs(2);
/// Maximum size of the body of a request, in bytes.
pub(super) const MAX_BODY: usize = 64;
/// Time and bytes for which a connection is read after its answer.
const LINGER: (Duration, u64) = (Duration::from_millis(500), 1 << 20);

/// A server of HTTP. Dropping it ends all its connections.
#[derive(Debug)]
pub(crate) struct Served {
    _task: Task,
}

/// Serves the routes on the connections of a listener.
pub(crate) fn serve(
    listener: impl Stream<Item = io::Result<Accepted>> + Send + 'static,
    routes: Router,
    tasks: &Tasks,
) -> Served {
    serve_within(TIMES, listener, routes, tasks)
}

/// Like [`serve`], with other bounds.
pub(super) fn serve_within(
    times: Times,
    listener: impl Stream<Item = io::Result<Accepted>> + Send + 'static,
    routes: Router,
    tasks: &Tasks,
) -> Served {
    Served { _task: tasks.guarded(accept(times, listener, routes)) }
}

async fn accept(times: Times, listener: impl Stream<Item = io::Result<Accepted>> + Send, routes: Router) {
    let mut listener = pin!(listener);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            next = listener.next() => match next {
                Some(Ok(accepted)) => drop(open.spawn(connection(times, accepted, routes.clone()))),
                Some(Err(error)) => tracing::debug!(%error, "a connection was not accepted"),
                None => return,
            },
            Some(ended) = open.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a request of the admin listener was not answered");
            },
        }
    }
}

async fn connection(times: Times, accepted: Accepted, routes: Router) {
    let Accepted { stream, mut seat, .. } = accepted;
    let calls = seat.calls();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let calling = calls.begin();
        let answer = routes.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(calling);
            answer
        }
    });
    let serving = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.header)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let served = async {
        match serving.without_shutdown().await {
            Ok(parts) => linger(parts.io.into_inner()).await,
            Err(error) => tracing::debug!(%error, "a connection of the admin listener ended"),
        }
    };
    tokio::select! {
        served = timeout(times.whole, served) => if served.is_err() {
            tracing::debug!(limit = ?times.whole, "a connection of the admin listener was too slow");
        },
        () = seat.unwanted() => {}
    }
}

/// Ends the answer, and reads until the client has ended too.
async fn linger(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let _gone = stream.shutdown().await;
    let _late = timeout(LINGER.0, copy(&mut stream.take(LINGER.1), &mut sink())).await;
}
