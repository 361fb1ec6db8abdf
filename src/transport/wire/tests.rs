// SPDX-License-Identifier: Apache-2.0

use std::{io, os::fd::OwnedFd};

use futures::StreamExt;
use tokio::sync::watch;
use tonic::Code;
use tower::Service;

use super::*;
use crate::{
    api::{
        Connection, Inode, Mechanism, MechanismKind,
        pb::{
            connection::{MonitorScopeSelector, monitor_connection_client::MonitorConnectionClient},
            networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
        },
    },
    testing::{Authority, echo::Endpoint, eventually, soon},
    transport::{Address, Identity, Listener, identity::IdentityState},
};

const LIFETIME: Duration = Duration::from_secs(600);

async fn dial(address: &Address, authority: &Authority) -> Wire {
    Wire::dial(address, authority.svid("client"), soon()).await.unwrap()
}

fn message(mechanism: Option<Mechanism>) -> NetworkServiceRequest {
    let connection = Connection { mechanism, ..*Connection::named("a") };
    NetworkServiceRequest { connection: Some(connection), ..Default::default() }
}

async fn request(wire: &Wire) -> Result<Connection, Status> {
    let request = wire.call(message(None), Some(soon()), LIFETIME)?;
    Ok(NetworkServiceClient::new(wire.clone()).request(request).await?.into_inner())
}

/// A descriptor, its identity, and a mechanism that names it.
fn file() -> (Arc<OwnedFd>, Inode, Mechanism) {
    let (_, writer) = io::pipe().unwrap();
    let fd: OwnedFd = writer.into();
    let inode = Inode::of(&fd).unwrap();
    let mut mechanism = Mechanism::local(MechanismKind::Kernel);
    mechanism.parameters.insert(crate::api::parameter::INODE_URL.into(), inode.to_string());
    (Arc::new(fd), inode, mechanism)
}

#[tokio::test]
async fn a_call_and_its_answer_carry_token_deadline_and_descriptors() {
    let authority = Authority::new("a.test");
    let endpoint = Endpoint::of(&authority).await;
    let wire = dial(&endpoint.address, &authority).await;
    assert_eq!(wire.peer().id(), "spiffe://a.test/endpoint");
    wire.hub().unwrap().keep_received();
    let (fd, inode, mechanism) = file();
    let deadline = Instant::now() + Duration::from_secs(7);
    let mut request = wire.call(message(Some(mechanism)), Some(deadline), LIFETIME).unwrap();
    request.extensions_mut().insert(SendFds(vec![fd]));
    let answer = NetworkServiceClient::new(wire.clone()).request(request).await.unwrap().into_inner();
    assert_eq!(answer.labels["caller"], "spiffe://a.test/client");
    assert_eq!(answer.labels["signed"], "true");
    let timeout = &answer.labels["timeout"];
    assert!(timeout.starts_with("6") || timeout.starts_with("7"), "{timeout}");
    let back = wire.hub().unwrap().take(inode, soon()).await.unwrap();
    assert_eq!(Inode::of(back).unwrap(), inode);
}

#[tokio::test]
async fn a_descriptor_that_never_comes_leaves_the_wire_usable() {
    let authority = Authority::new("a.test");
    let endpoint = Endpoint::of(&authority).await;
    let wire = dial(&endpoint.address, &authority).await;
    let (_kept, _, mechanism) = file();
    let deadline = Instant::now() + Duration::from_millis(300);
    let call = wire.call(message(Some(mechanism)), Some(deadline), LIFETIME).unwrap();
    let status = NetworkServiceClient::new(wire.clone()).request(call).await.unwrap_err();
    assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status:?}");
    request(&wire).await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_is_dropped_soon_after_the_deadline() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("silent.sock"));
    let mut listener = Listener::bind(&address, authority.identity("silent")).await.unwrap();
    let (wire, _accepted) = tokio::join!(dial(&address, &authority), listener.next());
    let start = Instant::now();
    let call = wire.call(message(None), Some(start + Duration::from_millis(200)), LIFETIME).unwrap();
    let status = NetworkServiceClient::new(wire.clone()).request(call).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(start.elapsed() >= Duration::from_millis(700) && start.elapsed() < Duration::from_secs(5));
    let status = wire.call(message(None), Some(start), LIFETIME).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_descriptors_along() {
    let authority = Authority::new("a.test");
    let endpoint = Endpoint::of(&authority).await;
    let mut wire = dial(&endpoint.address, &authority).await;
    let (fd, ..) = file();
    let weak = Arc::downgrade(&fd);
    let mut request = http::Request::new(Body::empty());
    request.extensions_mut().insert(SendFds(vec![fd]));
    let call = Service::call(&mut wire, request);
    assert_eq!(wire.hub().unwrap().queued(), 1);
    drop(call);
    assert_eq!(wire.hub().unwrap().queued(), 0);
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn an_open_stream_keeps_the_connection_and_its_end_closes_it() {
    let authority = Authority::new("a.test");
    let endpoint = Endpoint::of(&authority).await;
    let wire = dial(&endpoint.address, &authority).await;
    let hub = Arc::clone(wire.hub().unwrap());
    let call = wire.call(MonitorScopeSelector::default(), None, LIFETIME).unwrap();
    let mut events =
        MonitorConnectionClient::new(wire.clone()).monitor_connections(call).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    drop(wire);
    endpoint.events.send_replace(1);
    events.message().await.unwrap().unwrap();
    drop(events);
    let (fd, ..) = file();
    eventually(|| hub.send(Arc::clone(&fd)).is_err(), |closed| *closed).await;
}

#[tokio::test]
async fn a_wire_does_not_reconnect() {
    let authority = Authority::new("a.test");
    let endpoint = Endpoint::of(&authority).await;
    let wire = dial(&endpoint.address, &authority).await;
    request(&wire).await.unwrap();
    drop(endpoint);
    tokio::time::timeout_at(soon(), wire.closed()).await.unwrap();
    assert!(wire.is_closed());
    request(&wire).await.unwrap_err();
}

/// Peers verify tokens with the certificate of the connection.
#[tokio::test]
async fn both_sides_of_a_wire_keep_their_svid_through_a_rotation() {
    let authority = Authority::new("a.test");
    let server = |svid| IdentityState { svid: Some(svid), error: None };
    let [before, after] = [authority.svid("endpoint"), authority.svid("endpoint")];
    let (standing, watched) = watch::channel(server(Arc::clone(&before)));
    let endpoint = Endpoint::unix(Identity::of(watched)).await;
    let old = dial(&endpoint.address, &authority).await;
    assert_eq!(request(&old).await.unwrap().labels["serial"], before.serial());
    standing.send_replace(server(Arc::clone(&after)));
    let new = dial(&endpoint.address, &authority).await;
    for (wire, svid) in [(&old, &before), (&new, &after)] {
        let answer = request(wire).await.unwrap();
        assert_eq!(answer.labels["serial"], svid.serial());
        assert_eq!(answer.labels["signed"], "true");
    }
}

#[tokio::test]
async fn descriptors_do_not_pass_over_tcp() {
    let authority = Authority::new("a.test");
    let endpoint = Endpoint::tcp("127.0.0.1:0", authority.identity("endpoint")).await;
    let wire = dial(&endpoint.address, &authority).await;
    assert!(wire.hub().is_none());
    let mut call = wire.call(message(None), Some(soon()), LIFETIME).unwrap();
    call.extensions_mut().insert(SendFds(vec![file().0]));
    let status = NetworkServiceClient::new(wire.clone()).request(call).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    request(&wire).await.unwrap();
}

#[tokio::test]
async fn a_dropped_wire_leaves_no_task_even_if_its_peer_is_stuck() {
    let authority = Authority::new("a.test");
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    // Room for the 24 bytes of the preface, not for the settings.
    let (near, _unread) = tokio::io::duplex(32);
    let peer = Peer::of(&authority.leaf("peer").certificate).unwrap();
    let wire = Wire::over(near, None, authority.svid("client"), peer, None).await.unwrap();
    assert!(alive() > before);
    drop(wire);
    eventually(alive, |alive| *alive == before).await;
}
