// SPDX-License-Identifier: Apache-2.0

//! Serves a chain over a unix socket with mTLS, and calls it: a Request with a descriptor beside
//! it, and health.

use std::{future::pending, sync::Arc, time::Duration};

use network_service_client::NetworkServiceClient;
use nsm::{
    api::{Connection, Inode, Mechanism, MechanismKind, parameter, pb::networkservice::*},
    chain::{Chain, Element, Next, Reason, Request, Result},
    server::{self, monitor::Connections},
    task::Tasks,
    testing::{Authority, Workload},
    transport::{Address, Caller, Identity, Listener, SendFds, Wire, origin},
};
use tokio::time::Instant;

/// Claims the descriptor that the first preference names.
struct Claim;

impl Element for Claim {
    const NAME: &'static str = "claim";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let caller: Caller = request.context.extensions.get().cloned().ok_or(Reason::Ended)?;
        let inode = request.preferences.first().and_then(Mechanism::inode).ok_or(Reason::Ended)?;
        let hub = caller.hub.ok_or(Reason::Ended)?;
        let claimed = hub.take(inode, request.context.deadline).await.is_some();
        println!("{} sent {inode}, which came: {claimed}", caller.peer.id());
        next.request(request).await
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let tasks = Tasks::default();
    let authority = Authority::new("example.org");
    let soon = Instant::now() + Duration::from_secs(10);

    // A Workload API for each side, like that of the SPIRE agent on every node.
    let identity = |pod: &str| -> std::result::Result<_, Box<dyn std::error::Error>> {
        let workload = Workload::listen(folder.path().join(format!("{pod}.agent")))?;
        workload.grant(authority.issue(&authority.pod("default", pod), Duration::from_secs(3600)));
        Ok((Identity::follow(&workload.url(), &tasks), workload))
    };
    let ((server, _agent), (client, _other)) = (identity("server")?, identity("client")?);
    server.ready(soon).await?;

    let address = Address::Unix(folder.path().join("endpoint.sock"));
    let listener = Listener::bind(&address, server).await?.keep_descriptors();
    let endpoint = server::Endpoint::new(Chain::new().with(Claim).build()?, Connections::default());
    let (_reporter, health) = server::health().await;
    let routes = endpoint.routes().add_service(health);
    tasks.spawn(server::serve(listener, routes, pending(), Duration::from_secs(1)));

    let wire = Wire::dial(&address, client.ready(soon).await?, soon).await?;
    let netns = Arc::new(std::os::fd::OwnedFd::from(std::fs::File::open("/proc/self/ns/net")?));
    let mut mechanism = Mechanism::local(MechanismKind::Kernel);
    mechanism.parameters.insert(parameter::INODE_URL.into(), Inode::of(&netns)?.to_string());
    let connection = Some(*Connection::named("a"));
    let message = NetworkServiceRequest { connection, mechanism_preferences: vec![mechanism] };
    let mut request = wire.call(message, Some(soon), Duration::from_secs(600))?;
    request.extensions_mut().insert(SendFds(vec![netns]));
    let answer = NetworkServiceClient::with_origin(wire.clone(), origin()).request(request).await?;
    assert_eq!(answer.into_inner().id, "a");

    let mut health = tonic_health::pb::health_client::HealthClient::with_origin(wire, origin());
    let service = server::NAMES[0].to_owned();
    let check = health.check(tonic_health::pb::HealthCheckRequest { service }).await?.into_inner();
    assert_eq!(check.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    tasks.stop().await;
    Ok(())
}
