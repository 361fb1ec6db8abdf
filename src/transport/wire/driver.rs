// SPDX-License-Identifier: Apache-2.0

//! Own the tasks that move the bytes of one HTTP/2 connection.

use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The tasks of one connection; dropping it ends them, which closes the connection.
pub(super) struct Driver {
    cut: CancellationToken,
    closed: CancellationToken,
}

/// Runs the tasks of one connection until they end or are cut.
#[derive(Clone, Default)]
pub(super) struct Spawn {
    cut: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, work: F) {
        let cut = self.cut.clone();
        tokio::spawn(async move {
            let _finished = cut.run_until_cancelled(work).await;
        });
    }
}

impl Driver {
    /// Run a connection, which has spawned its other tasks by `spawn`.
    pub(super) fn run(
        spawn: Spawn,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        spawn.execute(async move {
            let _ended = ended;
            if let Err(error) = connection.await {
                debug!(%error, "connection ended");
            }
        });
        Self { cut: spawn.cut, closed }
    }

    /// Wait until the connection has ended.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}
