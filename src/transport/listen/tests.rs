// SPDX-License-Identifier: Apache-2.0

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use futures::StreamExt;
use rustls::HandshakeKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{room::PeerKey, socket::Incoming, *};
use crate::{
    server::{health, serve},
    testing::{Authority, Stranger, soon},
    transport::{Svid, Wire, origin},
};

fn socket(folder: &Path) -> (std::path::PathBuf, Address) {
    let path = folder.join("fresh/nse.sock");
    (path.clone(), Address::Unix(path))
}

/// Accepts one connection and sends a byte to it.
async fn greet(listener: &mut Listener) -> Accepted {
    let mut accepted = tokio::time::timeout_at(soon(), listener.next()).await.unwrap().unwrap().unwrap();
    accepted.stream.write_all(b"x").await.unwrap();
    accepted
}

#[tokio::test]
async fn the_socket_is_open_to_all_and_goes_with_the_listener() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket(folder.path());
    let listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
    let error = Listener::bind(&address, authority.identity("nse")).await.err().unwrap();
    assert!(matches!(error, ListenError::InUse(_)), "{error:?}");
    drop(listener);
    assert!(!path.exists());
    // A killed process leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
    fs::remove_file(&path).unwrap();
    let _successor = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists(), "the socket of a successor stays");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&address, authority.identity("nse")).await.err().unwrap();
    assert!(matches!(error, ListenError::Occupied(_)), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_peer_needs_a_trusted_certificate_and_http2() {
    let ours = Authority::new("a.test");
    let other = Authority::new("b.test");
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket(folder.path());
    let mut listener = Listener::bind(&address, ours.identity("nse")).await.unwrap();

    let client = Stranger::of(&ours.svid("client"));
    let federated = Svid::new(&other.context_with(&other.leaf("client"), &[&ours])).unwrap();
    for (what, stranger) in [
        ("anonymous", client.clone().anonymous()),
        ("foreign", Stranger::of(&federated)),
        ("http/1.1", client.clone().without_http2()),
    ] {
        tokio::select! {
            result = stranger.connect(&path) => assert!(result.is_err(), "{what}"),
            _ = listener.next() => panic!("{what} was accepted"),
        }
    }
    let (good, accepted) = tokio::join!(client.connect(&path), greet(&mut listener));
    good.unwrap();
    assert_eq!(accepted.caller.unwrap().peer.id(), "spiffe://a.test/client");
}

#[tokio::test]
async fn a_peer_receives_the_error_that_its_certificate_is_not_valid() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket(folder.path());
    let mut listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
    let expired = authority.leaf_until("client", -1);
    let client = Stranger::of(&authority.svid("client")).showing(&expired);
    let error = tokio::select! {
        result = client.connect(&path) => result.unwrap_err(),
        _ = listener.next() => panic!("it was accepted"),
    };
    let alert = error.get_ref().and_then(|error| error.downcast_ref());
    let expired = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
    assert_eq!(alert, Some(&expired), "{error}");
}

#[tokio::test]
async fn a_session_is_never_resumed() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket(folder.path());
    let mut listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
    let client = Stranger::of(&authority.svid("client")).resuming();
    for _ in 0..2 {
        let (kind, _accepted) = tokio::join!(client.connect(&path), greet(&mut listener));
        assert_eq!(kind.unwrap(), HandshakeKind::Full);
    }
}

/// Silent connections, from another process as far as the listener can detect.
fn silent_strangers(listener: &mut Listener, count: usize) -> Vec<UnixStream> {
    let mut ends = Vec::new();
    for _ in 0..count {
        let (peer, ours) = UnixStream::pair().unwrap();
        listener.newcomers.push(Incoming { socket: ours.into(), pid: 0 });
        ends.push(peer);
    }
    ends
}

/// Dials, and drives the listener meanwhile.
async fn dialled(listener: &mut Listener, address: &Address, svid: Arc<Svid>) -> (Wire, Accepted) {
    let (wire, accepted) = tokio::join!(Wire::dial(address, svid, soon()), listener.next());
    (wire.unwrap(), accepted.unwrap().unwrap())
}

#[tokio::test]
async fn silent_connections_delay_no_others() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket(folder.path());
    for count in [64, 1100] {
        let mut listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
        let mut silent = Vec::new();
        let mut open = Vec::new();
        for _ in 0..count {
            silent.push(UnixStream::connect(&path).await.unwrap());
            let waits = futures::poll!(listener.next()).is_pending();
            assert!(waits);
        }
        assert_eq!(listener.newcomers.silent(), count.min(MAX_NEWCOMERS + OWN));
        let start = tokio::time::Instant::now();
        for _ in 0..5 {
            open.push(dialled(&mut listener, &address, authority.svid("client")).await);
        }
        assert!(start.elapsed() < HANDSHAKE_TIMEOUT, "{count}: {:?}", start.elapsed());
        assert_eq!(listener.room.len(), 5);
    }
}

#[tokio::test]
async fn this_process_gets_in_while_strangers_fill_the_rest() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (_path, address) = socket(folder.path());
    let mut listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
    let mut calling = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let (seat, _) = listener.room.enter(PeerKey::Process(0), false).await.unwrap();
        calling.push((seat.calls().begin(), seat));
    }
    let mut strangers = silent_strangers(&mut listener, MAX_NEWCOMERS);
    let _own = dialled(&mut listener, &address, authority.svid("nse")).await;
    assert_eq!(listener.room.len(), MAX_CONNECTIONS + 1);
    for stranger in &mut strangers {
        assert_eq!(stranger.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it is open");
    }
}

#[tokio::test]
async fn a_displaced_connection_ends_in_order_and_a_new_one_is_served() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (_path, address) = socket(folder.path());
    let bounds = Bounds { own: 0, connections: 2, uncalled: UNCALLED, idle: None };
    let bound = Listening::bind(&address, None).await.unwrap();
    let listener = Listener::within(bound, Some(authority.identity("nse")), 4, bounds);
    let (_reporter, health) = health().await;
    let server = serve(listener, Routes::new(health), std::future::pending(), Duration::ZERO);
    let _server = AbortOnDropHandle::new(tokio::spawn(server));
    let mut wires = Vec::new();
    for _ in 0..5 {
        let wire = Wire::dial(&address, authority.svid("client"), soon()).await.unwrap();
        let request = wire.call(HealthCheckRequest::default(), Some(soon()), HANDSHAKE_TIMEOUT).unwrap();
        HealthClient::with_origin(wire.clone(), origin()).check(request).await.unwrap();
        wires.push(wire);
    }
    for displaced in &wires[..3] {
        tokio::time::timeout_at(soon(), displaced.closed()).await.unwrap();
    }
    assert!(!wires[3].is_closed() && !wires[4].is_closed());
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_has_ended() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (_path, address) = socket(folder.path());
    let mut listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
    let (_wire, accepted) = dialled(&mut listener, &address, authority.svid("client")).await;
    assert_eq!(listener.room.len(), 1);
    drop(accepted);
    assert_eq!(listener.room.len(), 0);
}

#[tokio::test]
async fn without_an_identity_connections_are_closed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket(folder.path());
    let (_known, standing) = tokio::sync::watch::channel(Default::default());
    let mut listener = Listener::bind(&address, Identity::of(standing)).await.unwrap();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let mut byte = [0];
    tokio::select! {
        read = stream.read(&mut byte) => assert_eq!(read.unwrap_or(0), 0),
        _ = listener.next() => panic!("accepted"),
    }
}
