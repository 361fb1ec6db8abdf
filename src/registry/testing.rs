// SPDX-License-Identifier: Apache-2.0

//! An nsmgr and its registry behind a real socket, with policies on, as far as registrations are
//! concerned.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, service::Routes};

use crate::{
    api::{
        Inode,
        pb::registry::{
            network_service_endpoint_registry_server::{
                NetworkServiceEndpointRegistry, NetworkServiceEndpointRegistryServer,
            },
            network_service_registry_server::{NetworkServiceRegistry, NetworkServiceRegistryServer},
            *,
        },
    },
    registry::TokenPath,
    server::serve,
    testing::Authority,
    transport::{Address, Caller, Listener},
};

/// A Register or Unregister that arrived.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedCall {
    pub(crate) what: &'static str,
    pub(crate) url: String,
    /// The header, with tokens replaced by a letter.
    pub(crate) path: String,
    pub(crate) timeout: String,
    /// Address of the connection's hub, which differs between connections.
    pub(crate) connection: usize,
}

type Watches = Vec<(NetworkServiceEndpoint, mpsc::Sender<Result<NetworkServiceEndpointResponse, Status>>)>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) endpoints: BTreeMap<String, (NetworkServiceEndpoint, Arc<OwnedFd>)>,
    pub(crate) services: HashMap<String, (NetworkService, String)>,
    pub(crate) arrived: Vec<ReceivedCall>,
    /// Returned instead of the path.
    pub(crate) odd_path: Option<String>,
    /// Register never answers.
    pub(crate) hangs: bool,
    watches: Watches,
}

impl State {
    pub(crate) fn watches(&self) -> usize {
        self.watches.len()
    }
}

#[derive(Clone, Default)]
struct Manager(Arc<Mutex<State>>);

/// Serves until it is stopped or dropped.
pub(crate) struct Nsmgr {
    manager: Manager,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Nsmgr {
    pub(crate) async fn start(authority: &Authority, address: &Address) -> Self {
        let manager = Manager::default();
        let listener = Listener::bind(address, authority.identity("nsmgr")).await.unwrap();
        let listener = listener.keep_descriptors();
        let (stop, stopped) = oneshot::channel::<()>();
        let services = Routes::new(NetworkServiceEndpointRegistryServer::new(manager.clone()))
            .add_service(NetworkServiceRegistryServer::new(manager.clone()));
        let stopped = async move { drop(stopped.await) };
        // It ends abruptly, as a killed process does.
        let server = tokio::spawn(serve(listener, services, stopped, Duration::ZERO));
        Self { manager, stop: Some(stop), server }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.server).await.unwrap();
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.manager.lock()
    }

    /// Names of the registered services.
    pub(crate) fn services(&self) -> Vec<String> {
        let mut names: Vec<_> = self.state().services.keys().cloned().collect();
        names.sort();
        names
    }

    /// The registered endpoints.
    pub(crate) fn endpoints(&self) -> Vec<NetworkServiceEndpoint> {
        self.state().endpoints.values().map(|(endpoint, _)| endpoint.clone()).collect()
    }

    pub(crate) fn delete(&self, name: &str) {
        let gone = self.state().endpoints.remove(name);
        gone.into_iter().for_each(|(endpoint, _)| self.manager.tell(&endpoint, true));
    }
}

impl Manager {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn tell(&self, endpoint: &NetworkServiceEndpoint, deleted: bool) {
        let event =
            NetworkServiceEndpointResponse { network_service_endpoint: Some(endpoint.clone()), deleted };
        self.lock()
            .watches
            .retain(|(like, watch)| !matches(like, endpoint) || watch.try_send(Ok(event.clone())).is_ok());
    }

    /// Checks a Register or Unregister: it needs a token of the caller, and a path.
    fn enter<T>(&self, request: &Request<T>) -> Result<(Caller, TokenPath), Status> {
        let denied =
            |why: &str| Status::permission_denied(format!("registry: no sufficient privileges: {why}"));
        let caller = Caller::of(request)?;
        let token = caller.token.clone().filter(|token| caller.peer.signed(token.jwt()));
        let token = token.ok_or_else(|| denied("prev_token_signed"))?;
        let path =
            TokenPath::read(request.metadata()).map_err(|error| Status::internal(error.to_string()))?;
        let mut path = path.ok_or_else(|| denied("no path"))?;
        path.enter(token.jwt().to_owned(), "manager>client".into());
        let mut further = path.next();
        further.enter("manager>registry".into(), "registry>manager".into());
        Ok((caller, further.back()))
    }

    fn arrive<T>(&self, what: &'static str, url: &str, request: &Request<T>, caller: &Caller) {
        let header = |key| request.metadata().get(key).map_or("", |value| value.to_str().unwrap()).to_owned();
        let mut path = header("path");
        let tokens: Vec<String> = caller.token.iter().map(|token| token.jwt().to_owned()).collect();
        let sent = TokenPath::read(request.metadata()).unwrap().unwrap();
        for token in sent.tokens().chain(tokens.iter().map(String::as_str)) {
            path = path.replace(token, "T");
        }
        let connection = caller.hub.as_ref().map_or(0, |hub| Arc::as_ptr(hub).addr());
        let timeout = header("grpc-timeout");
        self.lock().arrived.push(ReceivedCall { what, url: url.to_owned(), path, timeout, connection });
    }

    fn answer<T>(&self, message: T, path: &TokenPath) -> Response<T> {
        let mut metadata = MetadataMap::new();
        path.write(&mut metadata);
        if let Some(odd) = &self.lock().odd_path {
            metadata.insert("path", odd.parse().unwrap());
        }
        Response::from_parts(metadata, message, Default::default())
    }

    /// The descriptor that the URL names; it must have come over this connection.
    async fn descriptor(&self, url: &str, caller: &Caller) -> Result<OwnedFd, Status> {
        let inode: Inode = url.parse().map_err(|_| Status::unknown("cannot register NSE with passed URL"))?;
        let hub = caller.hub.as_ref().ok_or_else(|| Status::unknown("not a unix socket"))?;
        let fd = hub.take(inode, Instant::now() + Duration::from_secs(2)).await;
        fd.ok_or_else(|| Status::unknown(format!("timeout in recvfd waiting for {url}")))
    }
}

fn matches(like: &NetworkServiceEndpoint, endpoint: &NetworkServiceEndpoint) -> bool {
    (like.name.is_empty() || like.name == endpoint.name)
        && like.network_service_names.iter().all(|name| endpoint.network_service_names.contains(name))
}

#[tonic::async_trait]
impl NetworkServiceEndpointRegistry for Manager {
    type FindStream = BoxStream<'static, Result<NetworkServiceEndpointResponse, Status>>;

    async fn register(
        &self,
        request: Request<NetworkServiceEndpoint>,
    ) -> Result<Response<NetworkServiceEndpoint>, Status> {
        let (caller, path) = self.enter(&request)?;
        let url = request.get_ref().url.clone();
        self.arrive("register", &url, &request, &caller);
        let hangs = self.lock().hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        let fd = Arc::new(self.descriptor(&url, &caller).await?);
        let mut endpoint = request.into_inner();
        endpoint.expiration_time = Some((SystemTime::now() + Duration::from_secs(60)).into());
        endpoint.path_ids = vec![caller.peer.id().to_owned(), "spiffe://a.test/nsmgr".into()];
        self.lock().endpoints.insert(endpoint.name.clone(), (endpoint.clone(), fd));
        self.tell(&endpoint, false);
        Ok(self.answer(endpoint, &path))
    }

    async fn find(
        &self,
        request: Request<NetworkServiceEndpointQuery>,
    ) -> Result<Response<Self::FindStream>, Status> {
        let hub = Caller::of(&request)?.hub.unwrap();
        let NetworkServiceEndpointQuery { network_service_endpoint, watch } = request.into_inner();
        let like = network_service_endpoint.unwrap_or_default();
        let (sender, later) = mpsc::channel(10);
        let found: Vec<_> = {
            let mut state = self.lock();
            if watch {
                state.watches.push((like.clone(), sender));
            }
            state.endpoints.values().filter(|(endpoint, _)| matches(&like, endpoint)).cloned().collect()
        };
        let event = |endpoint| {
            Ok(NetworkServiceEndpointResponse { network_service_endpoint: Some(endpoint), deleted: false })
        };
        let now = futures::stream::iter(found.into_iter().map(move |(endpoint, _)| event(endpoint)));
        // Each endpoint comes with its descriptor, also when it is refreshed.
        let manager = self.clone();
        let mut all = now
            .chain(ReceiverStream::new(later))
            .map(move |event| {
                let name =
                    event.as_ref().ok().and_then(|e| Some(e.network_service_endpoint.as_ref()?.name.clone()));
                let fd = name.and_then(|name| Some(manager.lock().endpoints.get(&name)?.1.clone()));
                fd.map(|fd| hub.send(fd));
                event
            })
            .boxed();
        // Go's servers send the headers with the first message.
        let first = all.next().await;
        Ok(Response::new(futures::stream::iter(first).chain(all).boxed()))
    }

    async fn unregister(&self, request: Request<NetworkServiceEndpoint>) -> Result<Response<()>, Status> {
        let (caller, path) = self.enter(&request)?;
        let url = request.get_ref().url.clone();
        self.arrive("unregister", &url, &request, &caller);
        self.descriptor(&url, &caller).await?;
        let gone = self.lock().endpoints.remove(&request.get_ref().name);
        gone.into_iter().for_each(|(endpoint, _)| self.tell(&endpoint, true));
        Ok(self.answer((), &path))
    }
}

#[tonic::async_trait]
impl NetworkServiceRegistry for Manager {
    type FindStream = BoxStream<'static, Result<NetworkServiceResponse, Status>>;

    async fn register(&self, request: Request<NetworkService>) -> Result<Response<NetworkService>, Status> {
        let (caller, path) = self.enter(&request)?;
        let service = request.into_inner();
        let owner = caller.peer.id().to_owned();
        let other = self.lock().services.get(&service.name).is_some_and(|(_, first)| *first != owner);
        if other {
            return Err(Status::permission_denied("registry: no sufficient privileges: client_allowed"));
        }
        self.lock().services.insert(service.name.clone(), (service.clone(), owner));
        Ok(self.answer(service, &path))
    }

    async fn find(
        &self,
        request: Request<NetworkServiceQuery>,
    ) -> Result<Response<Self::FindStream>, Status> {
        let like = request.into_inner().network_service.unwrap_or_default();
        let found: Vec<_> =
            self.lock().services.values().filter(|(s, _)| s.name == like.name).cloned().collect();
        let events = found.into_iter().map(|(service, _)| {
            Ok(NetworkServiceResponse { network_service: Some(service), deleted: false })
        });
        Ok(Response::new(futures::stream::iter(events).boxed()))
    }

    async fn unregister(&self, _: Request<NetworkService>) -> Result<Response<()>, Status> {
        panic!("the network service is shared: nobody unregisters it")
    }
}
