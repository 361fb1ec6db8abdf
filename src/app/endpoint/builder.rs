// SPDX-License-Identifier: Apache-2.0

//! The rows, services and addresses of an endpoint before it is served.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tower_layer::Layer;

use super::{Endpoint, EndpointError};
use crate::{
    api::pb::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceLabels},
    app::{
        Server,
        changes::{Changes, DIAL, PAYLOAD, TOKEN_LIFETIME},
    },
    chain::{
        Chain, Named, Next,
        element::{CallService, Element},
    },
    chains,
    registry::{self, Offer, Registration},
    server::{self, monitor::Connections},
    task::Tasks,
    transport::{Address, Dialer, Identity},
};

/// Directory for the directory of the socket.
const SOCKETS: &str = "/tmp";

/// An endpoint that is not served yet. See [`Endpoint::builder`].
#[must_use = "an endpoint does nothing until it is served"]
pub struct EndpointBuilder {
    name: String,
    identity: Identity,
    tasks: Tasks,
    changes: Changes,
    services: Vec<NetworkService>,
    existing: Vec<String>,
    labels: BTreeMap<String, String>,
    sockets: PathBuf,
    listen: Option<Address>,
    nsmgr: Option<Address>,
    token_lifetime: Duration,
}

impl EndpointBuilder {
    pub(super) fn new(name: String, identity: Identity, tasks: Tasks) -> Self {
        Self {
            name,
            identity,
            tasks,
            changes: Changes::default(),
            services: Vec::new(),
            existing: Vec::new(),
            labels: BTreeMap::new(),
            sockets: SOCKETS.into(),
            listen: None,
            nsmgr: None,
            token_lifetime: TOKEN_LIFETIME,
        }
    }

    /// Appends an element below the standard rows.
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

    /// Changes the [standard chain](chains::endpoint), with the rows appended so far.
    pub fn chain(mut self, change: impl FnOnce(Chain) -> Chain + Send + 'static) -> Self {
        self.changes.push(change);
        self
    }

    /// Offers a network service with payload ETHERNET. Call it once for each service.
    pub fn offer(self, service: impl Into<String>) -> Self {
        self.offer_service(NetworkService {
            name: service.into(),
            payload: PAYLOAD.into(),
            ..NetworkService::default()
        })
    }

    /// Offers a network service with a payload and matches of its own.
    pub fn offer_service(mut self, service: NetworkService) -> Self {
        self.services.push(service);
        self
    }

    /// Offers a network service that is registered by others.
    pub fn offer_existing(mut self, service: impl Into<String>) -> Self {
        self.existing.push(service.into());
        self
    }

    /// Adds a label by which clients find the endpoint, for all its services.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Registers the services and the endpoint with the nsmgr of the node, and keeps them
    /// registered. Without this, clients must know the address.
    pub fn register_with(mut self, nsmgr: &Address) -> Self {
        self.nsmgr = Some(nsmgr.clone());
        self
    }

    /// Listens in a new directory below this one instead of `/tmp`.
    pub fn sockets(mut self, parent: impl Into<PathBuf>) -> Self {
        self.sockets = parent.into();
        self
    }

    /// Listens on this address instead of a unix socket in a directory of its own.
    pub fn listen_on(mut self, address: &Address) -> Self {
        self.listen = Some(address.clone());
        self
    }

    /// Lifetime of the endpoint's tokens instead of 10 minutes: a client refreshes its connection
    /// before they expire.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// Listens and starts to register.
    ///
    /// # Errors
    /// [`EndpointError`], except [`EndpointError::Refused`]; nothing is left behind then.
    pub async fn serve(mut self) -> Result<Endpoint, EndpointError> {
        if self.nsmgr.is_some() && self.services.is_empty() && self.existing.is_empty() {
            return Err(EndpointError::NothingOffered);
        }
        let connections = Connections::default();
        let standard = chains::endpoint(&self.name, self.token_lifetime, &connections, &self.tasks);
        let chain = std::mem::take(&mut self.changes).apply(standard);
        tracing::debug!(name = self.name, %chain, "endpoint");
        let (_reporter, health) = server::health().await;
        let routes = server::Endpoint::new(chain.build()?, connections.clone()).routes();
        let routes = routes.add_service(health);
        let identity = self.identity.clone();
        let server = match &self.listen {
            Some(address) => Server::on(address, identity, routes, &self.tasks).await?,
            None => Server::below(&self.sockets, &self.name, identity, routes, &self.tasks).await?,
        };
        tracing::info!(name = self.name, address = %server.address(), "listening");
        let registration = self.nsmgr.take().map(|nsmgr| self.register(nsmgr, server.address()));
        Ok(Endpoint { server, connections, registration })
    }

    /// Serves until `until` completes, then stops within 10 s.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<(), EndpointError> {
        self.serve().await?.run(until).await
    }

    fn register(self, nsmgr: Address, own: &Address) -> Registration {
        let settings = registry::Settings::default();
        let dialer = Dialer {
            address: nsmgr,
            identity: self.identity.clone(),
            dial_timeout: DIAL,
            token_lifetime: self.token_lifetime,
        };
        Registration::start(registry::Client::new(dialer, settings.deadline), self.entries(own), settings)
    }

    /// The entries of the registry: a unix socket is passed to nsmgr, another address is the URL of
    /// the endpoint.
    fn entries(self, own: &Address) -> Offer {
        let names = self.services.iter().map(|service| service.name.clone());
        let names: Vec<_> = names.chain(self.existing).collect();
        let labels = NetworkServiceLabels { labels: self.labels.into_iter().collect() };
        let labels = names.iter().map(|name| (name.clone(), labels.clone())).collect();
        let (url, socket) = match own {
            Address::Unix(path) => (String::new(), Some(path.clone())),
            address @ Address::Tcp(_) => (address.to_string(), None),
        };
        let endpoint = NetworkServiceEndpoint {
            name: self.name,
            network_service_names: names,
            network_service_labels: labels,
            url,
            ..NetworkServiceEndpoint::default()
        };
        Offer { services: self.services, endpoint, socket }
    }
}
