// SPDX-License-Identifier: Apache-2.0

//! Owns the tasks that move the bytes of one HTTP/2 connection.

use std::error::Error;

use futures::FutureExt as _;
use hyper::rt::Executor;
use tokio::sync::watch;
use tokio_util::{future::FutureExt as _, sync::CancellationToken};
use tracing::debug;

use crate::chain::causes;

/// The debug data with which a gRPC server ends a connection that is probed too often.
const TOO_MANY_PINGS: &str = "too_many_pings";

/// The way in which a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// In order, by either side.
    Closed,
    /// By the server, which refuses the frequency of pings (gRPC's GOAWAY `too_many_pings`).
    TooManyPings,
    /// By an error of HTTP/2 or below it.
    Broken(String),
}

/// The tasks of one connection; dropping it ends them, which closes the connection.
pub(super) struct Driver {
    cut: CancellationToken,
    ended: watch::Receiver<Option<Ended>>,
}

/// Runs the tasks of one connection until they end or are cut.
#[derive(Clone, Default)]
pub(super) struct Spawn {
    cut: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, work: F) {
        tokio::spawn(work.with_cancellation_token_owned(self.cut.clone()));
    }
}

impl Driver {
    /// Runs a connection, which has spawned its other tasks by `spawn`.
    pub(super) fn run(
        spawn: Spawn,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        let (end, ended) = watch::channel(None);
        spawn.execute(connection.map(move |result| {
            let how = result.map_or_else(|error| Ended::by(&error), |()| Ended::Closed);
            debug!(?how, "connection ended");
            end.send_replace(Some(how));
        }));
        Self { cut: spawn.cut, ended }
    }

    /// Waits until the connection has ended.
    pub(super) async fn closed(&self) -> Ended {
        let mut ended = self.ended.clone();
        // Without its sender the connection was cut.
        let ended = ended.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
        ended.unwrap_or(Ended::Closed)
    }
}

impl Ended {
    fn by(error: &hyper::Error) -> Self {
        let goaway = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        // h2 shows the debug data only in its text.
        match goaway.is_some_and(|error| {
            error.is_go_away()
                && error.is_remote()
                && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
                && error.to_string().contains(TOO_MANY_PINGS)
        }) {
            true => Self::TooManyPings,
            false => Self::Broken(causes(error)),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}
