// SPDX-License-Identifier: Apache-2.0

use std::path::Path;

use tokio::{net::UnixListener, sync::watch};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status};

use super::*;
use crate::{
    chain::causes,
    testing::{Authority, echo::Endpoint, soon},
    transport::{Identity, Listener, identity::IdentityState},
};

fn dialer(address: Address, identity: Identity) -> Dialer {
    let dial_timeout = Duration::from_secs(5);
    let token_lifetime = Duration::from_secs(600);
    Dialer { address, identity, dial_timeout, token_lifetime }
}

fn socket(folder: &Path) -> Address {
    Address::Unix(folder.join("nsm.sock"))
}

fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

#[tokio::test]
async fn a_dial_waits_for_a_socket_that_comes_late() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let address = socket(folder.path());
    let dialer = dialer(address.clone(), authority.identity("client"));
    let late = async {
        assert!(Wire::dial(&address, authority.svid("client"), soon()).await.is_err());
        Listener::bind(&address, authority.identity("nsmgr")).await.unwrap()
    };
    let accepted = async { futures::StreamExt::next(&mut late.await).await.unwrap().unwrap() };
    let (wire, _accepted) = tokio::join!(dialer.dial(soon()), accepted);
    assert_eq!(wire.unwrap().peer().id(), "spiffe://a.test/nsmgr");
}

#[tokio::test]
async fn a_missing_and_a_refusing_socket_are_named_at_the_deadline() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let dialer = dialer(socket(folder.path()), authority.identity("client"));
    let error = dialer.dial(shortly()).await.unwrap_err();
    assert!(matches!(&error, DialError::Deadline { last: Some(_), .. }), "{error:?}");
    let status = Status::from(error);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("nsm.sock") && status.message().contains("No such file"), "{status}");
    drop(UnixListener::bind(folder.path().join("nsm.sock")).unwrap());
    let error = dialer.dial(shortly()).await.unwrap_err();
    assert!(causes(&error).contains("refused"), "{error:?}");
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands_costs_one_attempt_not_more() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let _silent = UnixListener::bind(folder.path().join("nsm.sock")).unwrap();
    let mut dialer = dialer(socket(folder.path()), authority.identity("client"));
    dialer.dial_timeout = Duration::from_millis(100);
    let error = dialer.dial(shortly()).await.unwrap_err();
    let DialError::Deadline { last: Some(last), .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**last, DialError::Deadline { last: None, .. }), "{last:?}");
}

#[tokio::test]
async fn without_an_identity_there_is_no_dial() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let (known, standing) = watch::channel(IdentityState::default());
    let endpoint = Endpoint::of(&authority).await;
    let dialer = dialer(endpoint.address.clone(), Identity::of(standing));
    let error = dialer.dial(shortly()).await.unwrap_err();
    assert!(causes(&error).contains("the Workload API has not been heard"), "{error:?}");
    let late =
        async { known.send_replace(IdentityState { svid: Some(authority.svid("client")), error: None }) };
    let (wire, _) = tokio::join!(dialer.dial(soon()), late);
    wire.unwrap();
    drop(folder);
}

#[tokio::test]
async fn a_peer_whose_certificate_is_refused_is_not_dialled_again() {
    let ours = Authority::new("a.test");
    let other = Authority::new("b.test");
    let endpoint = Endpoint::of(&other).await;
    let error = dialer(endpoint.address.clone(), ours.identity("client")).dial(soon()).await.unwrap_err();
    assert!(matches!(error, DialError::Handshake { .. }), "{error:?}");
    assert!(causes(&error).contains("spiffe://b.test/endpoint"), "{}", causes(&error));
    assert_eq!(Status::from(error).code(), Code::Unavailable);
}

#[tokio::test]
async fn a_peer_without_http2_is_refused_after_the_handshake() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("nsm.sock")).unwrap();
    let mut config = (*authority.svid("old").server_config().unwrap()).clone();
    config.alpn_protocols.clear();
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    };
    let address = socket(folder.path());
    let (error, _stream) = tokio::join!(Wire::dial(&address, authority.svid("client"), soon()), accept);
    let error = error.unwrap_err();
    assert!(matches!(error, DialError::NotHttp2 { .. }), "{error:?}");
    assert!(!error.is_transient());
}
