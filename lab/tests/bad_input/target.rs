// SPDX-License-Identifier: Apache-2.0

//! The calls of targets: well-formed ones, to be spoilt by the rows.

use std::time::Duration;

use nsm::{
    api::{
        Connection, Mechanism, MechanismKind, PathSegment,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    },
    transport::Wire,
};
use tokio::time::Instant;
use tonic::Status;

use crate::{around::HOUR, world::World};

/// Deadline of a call, unless a row sets another.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A Request for a new connection, and a kernel interface as the only preference.
pub(crate) fn new(id: &str) -> NetworkServiceRequest {
    let mut connection = *Connection::named(id);
    connection.network_service = "proxy.conduit.trench.default".into();
    connection.payload = "ETHERNET".into();
    let own = PathSegment { name: "target".into(), id: id.into(), ..PathSegment::default() };
    connection.path_mut().path_segments = vec![own];
    request(connection)
}

/// A Request for an existing connection.
pub(crate) fn request(connection: Connection) -> NetworkServiceRequest {
    let mechanism_preferences = vec![Mechanism::local(MechanismKind::Kernel)];
    NetworkServiceRequest { connection: Some(connection), mechanism_preferences }
}

/// A connection to the proxy, as the pod `target`.
pub(crate) async fn wire(world: &World) -> Result<Wire, String> {
    world.dialer("target").dial(Instant::now() + CALL_TIMEOUT).await.map_err(|error| format!("{error:?}"))
}

/// A call with its token and deadline.
pub(crate) fn call<M>(wire: &Wire, message: M, timeout: Duration) -> tonic::Request<M> {
    wire.call(message, Some(Instant::now() + timeout), HOUR).unwrap()
}

pub(crate) async fn send(
    wire: &Wire,
    call: tonic::Request<NetworkServiceRequest>,
) -> Result<Connection, Status> {
    Ok(NetworkServiceClient::new(wire.clone()).request(call).await?.into_inner())
}

/// A Request over a new wire.
pub(crate) async fn ask(world: &World, message: NetworkServiceRequest) -> Result<Connection, Status> {
    ask_within(world, message, CALL_TIMEOUT).await
}

pub(crate) async fn ask_within(
    world: &World,
    message: NetworkServiceRequest,
    timeout: Duration,
) -> Result<Connection, Status> {
    let wire = wire(world).await.map_err(Status::aborted)?;
    send(&wire, call(&wire, message, timeout)).await
}

/// A Close over a new wire.
pub(crate) async fn close(world: &World, connection: &Connection) -> Result<(), Status> {
    let wire = wire(world).await.map_err(Status::aborted)?;
    let call = call(&wire, connection.clone(), CALL_TIMEOUT);
    NetworkServiceClient::new(wire).close(call).await.map(drop)
}

/// Connects, and waits until the link is a port.
pub(crate) async fn established(world: &World, id: &str) -> Result<Connection, String> {
    let answer = ask(world, new(id)).await.map_err(|status| format!("a good Request: {status}"))?;
    let addresses = answer.ip_context().map_or(0, |ip| ip.src_ip_addrs.len());
    if addresses != 2 {
        return Err(format!("a good Request got {addresses} addresses"));
    }
    world.link(&answer).await?;
    Ok(answer)
}

/// Closes, and removes the link.
pub(crate) async fn closed(world: &World, connection: &Connection) -> Result<(), String> {
    close(world, connection).await.map_err(|status| format!("a good Close: {status}"))?;
    world.unlink(connection);
    Ok(())
}
