// SPDX-License-Identifier: Apache-2.0
//! Tests the registry over real sockets, with callers that violate its rules.

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tonic::{Code, Request, Status, service::Routes};

use super::{Endpoints, Services};
use crate::{
    identity::agent::Agent,
    network::{NEEDS, netns::Netns},
    pods::hosted::Hosted,
};
use nsm::{
    api::{
        Inode,
        pb::registry::{
            NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
            network_service_endpoint_registry_client::NetworkServiceEndpointRegistryClient as EndpointClient,
            network_service_endpoint_registry_server::NetworkServiceEndpointRegistryServer as EndpointServer,
            network_service_registry_client::NetworkServiceRegistryClient as ServiceClient,
            network_service_registry_server::NetworkServiceRegistryServer as ServiceServer,
        },
    },
    registry::TokenPath,
    task::Tasks,
    transport::{Address, Identity, SendFds, Wire, origin},
};

const LIFETIME: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(5);

struct Registry {
    tasks: Tasks,
    agent: Agent,
    target: Address,
    endpoints: Endpoints,
    hosted: Hosted,
    folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::default();
        let mut agent = Agent::new().unwrap();
        let identity = agent.identity("nsmgr", &folder.path().join("nsmgr"), &tasks).unwrap();
        let endpoints = Endpoints::new("node-1", &tasks);
        let routes = Routes::new(ServiceServer::new(Services::default()))
            .add_service(EndpointServer::new(endpoints.clone()));
        let target = Address::Unix(folder.path().join("nsm.io.sock"));
        let hosted =
            Hosted::start_with_descriptors(&Netns::new().expect(NEEDS), &target, identity, routes).unwrap();
        Self { tasks, agent, target, endpoints, hosted, folder }
    }

    async fn wire(&mut self, pod: &str) -> Wire {
        let folder = self.folder.path().join(pod);
        let identity: Identity = self.agent.identity(pod, &folder, &self.tasks).unwrap();
        let deadline = Instant::now() + DEADLINE;
        let svid = identity.ready(deadline).await.unwrap();
        loop {
            // The server may not have its identity yet.
            match Wire::dial(&self.target, Arc::clone(&svid), deadline).await {
                Ok(wire) => return wire,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.hosted.stop().await;
        self.tasks.stop().await;
    }
}

fn call<M>(wire: &Wire, message: M, path: bool) -> Request<M> {
    let mut call = wire.call(message, Some(Instant::now() + DEADLINE), LIFETIME).unwrap();
    if path {
        TokenPath::default().write(call.metadata_mut());
    }
    call
}

async fn register_service(wire: &Wire, name: &str, path: bool) -> Result<NetworkService, Status> {
    let service = NetworkService { name: name.into(), payload: "ETHERNET".into(), ..Default::default() };
    let mut client = ServiceClient::with_origin(wire.clone(), origin());
    client.register(call(wire, service, path)).await.map(tonic::Response::into_inner)
}

/// Registers an endpoint of the service `lb`, with the descriptor of some file if it has to be
/// sent.
async fn register_endpoint(
    wire: &Wire,
    name: &str,
    life: Duration,
    send: bool,
) -> Result<NetworkServiceEndpoint, Status> {
    let file: Arc<OwnedFd> = Arc::new(std::fs::File::open("/proc/self/ns/net").unwrap().into());
    let endpoint = NetworkServiceEndpoint {
        name: name.into(),
        network_service_names: vec!["lb".into()],
        url: Inode::of(&file).unwrap().to_string(),
        expiration_time: Some((SystemTime::now() + life).into()),
        ..Default::default()
    };
    let mut call = call(wire, endpoint, true);
    call.set_timeout(Duration::from_millis(if send { 5000 } else { 300 }));
    if send {
        call.extensions_mut().insert(SendFds(vec![file]));
    }
    let mut client = EndpointClient::with_origin(wire.clone(), origin());
    client.register(call).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_has_an_owner_and_a_call_needs_its_path() {
    let mut registry = Registry::start();
    let first = registry.wire("lb1").await;
    let second = registry.wire("lb2").await;
    let denied = register_service(&first, "lb", false).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let registered = register_service(&first, "lb", true).await.unwrap();
    assert_eq!(registered.path_ids, [first.svid().id(), first.peer().id()]);
    let denied = register_service(&second, "lb", true).await.unwrap_err();
    assert!(denied.message().contains("no sufficient privileges"), "{denied}");
    register_service(&first, "lb", true).await.expect("the owner may register again");
    let again = call(&first, NetworkService { name: "lb".into(), ..Default::default() }, true);
    ServiceClient::with_origin(first.clone(), origin()).unregister(again).await.unwrap();
    register_service(&second, "lb", true).await.expect("the name is free");
    drop((first, second));
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_needs_its_descriptor_and_expires_early() {
    let mut registry = Registry::start();
    let wire = registry.wire("lb1").await;
    let late = register_endpoint(&wire, "lb1", LIFETIME, false).await.unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&late.code()), "{late}");
    assert!(registry.endpoints.get("lb1").is_none());

    let wanted = NetworkServiceEndpoint { name: "lb1".into(), ..Default::default() };
    let query = NetworkServiceEndpointQuery { network_service_endpoint: Some(wanted), watch: true };
    let watch = wire.call(query, None, LIFETIME).unwrap();
    wire.hub().unwrap().keep_received();
    let mut events =
        EndpointClient::with_origin(wire.clone(), origin()).find(watch).await.unwrap().into_inner();
    let answer = register_endpoint(&wire, "lb1", DEADLINE + Duration::from_secs(1), true).await.unwrap();
    assert!(answer.expiration_time.is_some() && answer.initial_registration_time.is_some());
    let registered = Instant::now();
    let there = events.message().await.unwrap().unwrap();
    assert!(!there.deleted);
    let inode: Inode = there.network_service_endpoint.unwrap().url.parse().unwrap();
    let descriptor = wire.hub().unwrap().take(inode, Instant::now() + DEADLINE).await;
    assert!(descriptor.is_some(), "its descriptor comes beside the answer");

    let gone = tokio::time::timeout(DEADLINE, events.message()).await.expect("it lapses").unwrap().unwrap();
    assert!(gone.deleted && registry.endpoints.get("lb1").is_none());
    assert!(registered.elapsed() < DEADLINE, "a call deadline before its expiry");
    drop((events, wire));
    registry.stop().await;
}
