// SPDX-License-Identifier: Apache-2.0

//! Ownership of background tasks: every task is counted and can be stopped.

use std::{future::Future, sync::Arc};

use tokio::task::AbortHandle;
use tokio_util::{
    future::FutureExt,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

/// Owner of all background tasks of a chain. Clones share the same set.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = nsm::task::Tasks::default();
/// tasks.spawn(std::future::pending());
/// assert_eq!(tasks.len(), 1);
/// tasks.stop().await;
/// assert_eq!(tasks.len(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Spawns a future that is dropped, at the latest, when the returned guard is.
    pub fn guarded<F>(&self, work: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Task { alive: None, handle: Some(self.spawn(work)) }
    }

    /// Spawns a future. It runs until it completes, is aborted, or [`stop`](Self::stop) is called.
    pub fn spawn<F>(&self, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(work.with_cancellation_token_owned(self.stop.clone())).abort_handle()
    }

    /// Spawns a future that [`stop`](Self::stop) does not drop, but notifies by the future given to
    /// `work`, and then waits for. It must end soon after.
    pub fn spawn_graceful<F, W>(&self, work: F)
    where
        F: FnOnce(WaitForCancellationFutureOwned) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(work(self.stop.clone().cancelled_owned()));
    }

    /// Number of running tasks.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task is running.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Stops all tasks and waits until they have ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Handle that aborts its task on drop; store it in a [`Scope`](crate::chain::Scope).
///
/// Events fired by the task that are still queued are discarded with it, so the timeout of an
/// earlier Request cannot close a connection that has been refreshed since.
#[derive(Debug)]
pub struct Task {
    pub(crate) alive: Option<Arc<()>>,
    pub(crate) handle: Option<AbortHandle>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}
