// SPDX-License-Identifier: Apache-2.0

//! Keeps an endpoint registered for as long as a value lives.

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Client, Error, Offer, Registry, Settings, State, keeper::Keeper};

/// An endpoint that is kept registered for as long as this lives. Dropping it lets the registration
/// lapse; [`unregister`](Self::unregister) ends it.
pub struct Registration<R: Registry = Client> {
    keeper: Keeper<R>,
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
        let keeper = Keeper::new(registry, offer, settings);
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.clone().keep(sender)));
        Self { keeper, state, task }
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
        let Self { keeper, task, .. } = self;
        task.abort();
        let _aborted = task.await;
        keeper.unregister().await
    }
}
