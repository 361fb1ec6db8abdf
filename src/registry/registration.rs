// SPDX-License-Identifier: Apache-2.0

//! Keeps an endpoint registered for as long as a value lives.

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Client, Error, Offer, Registry, Settings, State, worker::Worker};

/// An endpoint that is kept registered for as long as this lives. Dropping it lets the registration
/// lapse; [`unregister`](Self::unregister) ends it.
pub struct Registration<R: Registry = Client> {
    worker: Worker<R>,
    state: watch::Receiver<State>,
    task: AbortOnDropHandle<()>,
}

impl<R: Registry> Registration<R> {
    /// Starts registering, in a task of its own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(registry: R, offer: Offer, settings: Settings) -> Self {
        let (sender, state) = watch::channel(State::default());
        let worker = Worker::new(registry, offer, settings);
        let task = AbortOnDropHandle::new(tokio::spawn(worker.clone().keep(sender)));
        Self { worker, state, task }
    }

    /// The state of the registration, and its changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Stops refreshing and unregisters the endpoint, with retries, within
    /// [`Settings::unregister`]. The network service stays.
    ///
    /// # Errors
    /// The error of the last attempt. The entry then lapses by itself.
    pub async fn unregister(self) -> Result<(), Error> {
        let Self { worker, task, .. } = self;
        task.abort();
        let _aborted = task.await;
        worker.unregister().await
    }
}
