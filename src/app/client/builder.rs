// SPDX-License-Identifier: Apache-2.0

//! The rows and settings of a client before it connects.

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{Client, Inner, report::Report};
use crate::{
    app::changes::{Changes, DIAL, TOKEN_LIFETIME},
    chain::{
        Chain, InvalidChain, Named, Next,
        element::{CallService, Element},
    },
    chains,
    task::Tasks,
    transport::{Address, Dialer, Identity},
};

/// Timeout of one Request or Close.
const REQUEST: Duration = Duration::from_secs(15);

/// A client that does not connect yet. See [`Client::builder`].
#[must_use = "a client does nothing until it is built"]
pub struct ClientBuilder {
    name: String,
    nsmgr: Dialer,
    tasks: Tasks,
    changes: Changes,
    request_timeout: Duration,
}

impl ClientBuilder {
    pub(super) fn new(name: String, identity: Identity, nsmgr: Address, tasks: Tasks) -> Self {
        let nsmgr = Dialer { address: nsmgr, identity, dial_timeout: DIAL, token_lifetime: TOKEN_LIFETIME };
        Self { name, nsmgr, tasks, changes: Changes::default(), request_timeout: REQUEST }
    }

    /// Appends an element below the standard rows and above those that call nsmgr.
    pub fn with<E: Element>(self, element: E) -> Self {
        self.chain(|chain| chain.append(element))
    }

    /// Appends a tower layer under the given name, at the same place.
    pub fn layer<L>(self, name: &'static str, layer: L) -> Self
    where
        L: Layer<Next, Service: CallService> + Send + 'static,
    {
        self.chain(move |chain| chain.append(Named(name, layer)))
    }

    /// Changes the [standard chain](chains::client), with the rows appended so far.
    pub fn chain(mut self, change: impl FnOnce(Chain) -> Chain + Send + 'static) -> Self {
        self.changes.push(change);
        self
    }

    /// Timeout of one Request or Close instead of 15 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Lifetime of the client's tokens instead of 10 minutes: connections are refreshed before they
    /// expire.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.nsmgr.token_lifetime = lifetime;
        self
    }

    /// Finishes the chain.
    ///
    /// # Errors
    /// [`InvalidChain`] if a row is missing or stands in the wrong place.
    pub fn build(self) -> Result<Client, InvalidChain> {
        let standard = chains::client(&self.name, self.nsmgr.clone(), &self.tasks);
        let chain = self.changes.apply(standard.append(Report));
        tracing::debug!(name = self.name, %chain, "client");
        Ok(Client(Arc::new(Inner {
            chain: chain.build()?,
            name: self.name,
            nsmgr: self.nsmgr,
            tasks: self.tasks,
            request_timeout: self.request_timeout,
            ids: Default::default(),
        })))
    }
}
