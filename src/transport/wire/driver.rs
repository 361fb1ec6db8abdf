// SPDX-License-Identifier: Apache-2.0

//! Own the task that moves the bytes of one HTTP/2 connection.

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The task of one connection; dropping it aborts the task, which closes the connection.
pub(crate) struct Driver {
    task: AbortHandle,
    closed: CancellationToken,
}

impl Driver {
    /// Run a connection until it ends or the driver is dropped.
    pub(crate) fn run(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _ended = ended;
            if let Err(error) = connection.await {
                debug!(%error, "connection ended");
            }
        });
        Self { task: task.abort_handle(), closed }
    }

    /// Wait until the connection has ended.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}
