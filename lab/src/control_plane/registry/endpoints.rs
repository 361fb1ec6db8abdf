// SPDX-License-Identifier: Apache-2.0
//! Serves the registry of network service endpoints.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Entry, Owners, Store, authorize::Authorized, endpoint_matches};
use nsm::{
    api::{
        Inode,
        pb::registry::{
            NetworkServiceEndpoint, NetworkServiceEndpointQuery, NetworkServiceEndpointResponse,
            network_service_endpoint_registry_server::NetworkServiceEndpointRegistry,
        },
    },
    server::call_timeout,
    task::Tasks,
    transport::{Address, Caller},
};

/// Longest registration without a refresh.
const LIFETIME: Duration = Duration::from_secs(60);

/// An endpoint with the descriptor of its socket.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The endpoint, its url being that of the descriptor.
    pub endpoint: NetworkServiceEndpoint,
    /// Its socket, opened with `O_PATH`.
    pub socket: Arc<OwnedFd>,
}

impl Registered {
    /// Address of the endpoint: by the descriptor, because its path has no meaning in another mount
    /// namespace.
    pub fn target(&self) -> Address {
        Address::Unix(format!("/proc/self/fd/{}", self.socket.as_raw_fd()).into())
    }
}

/// The service. Clones share the registrations.
#[derive(Clone)]
pub struct Endpoints {
    store: Arc<Store<Registered>>,
    owners: Arc<Owners>,
    changed: Arc<Notify>,
    node: Arc<str>,
    /// Ends the streams of the watchers.
    pub stop: CancellationToken,
}

impl Endpoints {
    /// An empty registry of a node, with its expiry in a task of `tasks`.
    pub fn new(node: &str, tasks: &Tasks) -> Self {
        let store = Arc::new(Store::default());
        let changed = Arc::new(Notify::new());
        tasks.spawn(expire(Arc::clone(&store), Arc::clone(&changed)));
        let owners = Arc::default();
        let stop = CancellationToken::new();
        Self { store, owners, changed, node: node.into(), stop }
    }

    /// The endpoint of a name.
    pub fn get(&self, name: &str) -> Option<Registered> {
        self.store.get(name)
    }

    /// All endpoints, by name.
    pub fn all(&self) -> Vec<Registered> {
        self.store.all()
    }

    /// Registers without a call, permanently.
    #[cfg(test)]
    pub(crate) fn put(&self, endpoint: NetworkServiceEndpoint, socket: Arc<OwnedFd>) {
        let name = endpoint.name.clone();
        self.store.set(&name, Entry { value: Registered { endpoint, socket }, until: None });
    }

    async fn socket(
        &self,
        endpoint: &NetworkServiceEndpoint,
        caller: &Caller,
        until: Instant,
    ) -> Result<Arc<OwnedFd>, Status> {
        let known = self.store.get(&endpoint.name).filter(|known| known.endpoint.url == endpoint.url);
        if let Some(known) = known {
            return Ok(known.socket);
        }
        let inode: Inode = endpoint.url.parse().map_err(|error| {
            Status::invalid_argument(format!("cannot register {} with url: {error}", endpoint.name))
        })?;
        let hub = caller
            .hub
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("descriptors come over unix sockets only"))?;
        let socket = hub.take(inode, until).await;
        socket.map(Arc::new).ok_or_else(|| {
            Status::deadline_exceeded(format!("timeout in recvfd waiting for {}", endpoint.url))
        })
    }

    /// Labels that nsmgr adds: its node, to each service that has labels and not this one.
    fn label(&self, endpoint: &mut NetworkServiceEndpoint) {
        for labels in endpoint.network_service_labels.values_mut() {
            labels.labels.entry("nodeName".into()).or_insert_with(|| self.node.to_string());
        }
    }
}

async fn expire(store: Arc<Store<Registered>>, changed: Arc<Notify>) {
    loop {
        match store.expire(Instant::now()) {
            None => changed.notified().await,
            Some(next) => {
                tokio::select! {
                    () = changed.notified() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            }
        }
    }
}

/// The expiry named in the answer, and the moment at which the entry is dropped.
fn lifetime(
    endpoint: &NetworkServiceEndpoint,
    authorized: &Authorized,
    left: Duration,
) -> (SystemTime, Instant) {
    let now = SystemTime::now();
    let asked = endpoint.expiration_time.and_then(|time| SystemTime::try_from(time).ok());
    let token = authorized.caller.token.as_ref().map(nsm::transport::Token::expires);
    let expires = [Some(now + LIFETIME), asked, token].into_iter().flatten().min().unwrap_or(now);
    let life = expires.duration_since(now).unwrap_or_default();
    (expires, Instant::now() + life.saturating_sub(left))
}

#[tonic::async_trait]
impl NetworkServiceEndpointRegistry for Endpoints {
    type FindStream = Pin<Box<dyn Stream<Item = Result<NetworkServiceEndpointResponse, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<NetworkServiceEndpoint>,
    ) -> Result<Response<NetworkServiceEndpoint>, Status> {
        if request.get_ref().name.is_empty() {
            return Err(Status::invalid_argument("NetworkServiceEndpoint.Name can not be zero valued"));
        }
        let authorized = self.owners.authorize(&request, &request.get_ref().name)?;
        let left = call_timeout(request.metadata())?;
        let mut endpoint = request.into_inner();
        let socket = self.socket(&endpoint, &authorized.caller, Instant::now() + left).await?;
        self.label(&mut endpoint);
        let (expires, until) = lifetime(&endpoint, &authorized, left);
        endpoint.expiration_time = Some(expires.into());
        endpoint.initial_registration_time.get_or_insert_with(|| SystemTime::now().into());
        endpoint.path_ids.clone_from(&authorized.path_ids);
        let value = Registered { endpoint: endpoint.clone(), socket };
        if !self.store.set(&endpoint.name, Entry { value, until: Some(until) }) {
            return Err(Status::resource_exhausted("too many endpoints"));
        }
        self.changed.notify_one();
        Ok(authorized.answer(endpoint))
    }

    async fn find(
        &self,
        request: Request<NetworkServiceEndpointQuery>,
    ) -> Result<Response<Self::FindStream>, Status> {
        let hub = Caller::of(&request)?.hub;
        let query = request.into_inner();
        let wanted = query.network_service_endpoint.unwrap_or_default();
        let answers = self
            .store
            .find(query.watch)
            .filter(move |change| futures::future::ready(endpoint_matches(&wanted, &change.value.endpoint)))
            .map(move |change| {
                if let Some(hub) = hub.as_ref().filter(|_| !change.deleted) {
                    hub.send(change.value.socket)
                        .map_err(|error| Status::resource_exhausted(error.to_string()))?;
                }
                let found = Some(change.value.endpoint);
                Ok(NetworkServiceEndpointResponse {
                    network_service_endpoint: found,
                    deleted: change.deleted,
                })
            })
            .take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn unregister(&self, request: Request<NetworkServiceEndpoint>) -> Result<Response<()>, Status> {
        self.owners.unregister(&request, &request.get_ref().name, &self.store)
    }
}
