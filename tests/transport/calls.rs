// SPDX-License-Identifier: Apache-2.0

//! Peers: missing, without a certificate, or with descriptors and tokens that are wrong.

use std::time::Duration;

use meridio_proxy::{
    api::{Inode, Mechanism, MechanismKind, parameter},
    transport::{SendFds, Wire},
};
use tokio::time::Instant;
use tonic::{Code, Status, metadata::AsciiMetadataValue};

use crate::world::{HOUR, World, file, message, send, soon, works};

fn naming(inode: Inode) -> Mechanism {
    let mut mechanism = Mechanism::local(MechanismKind::Kernel);
    mechanism.parameters.insert(parameter::INODE_URL.into(), inode.to_string());
    mechanism
}

#[tokio::test]
async fn a_missing_nsmgr_socket_is_named_at_the_deadline() {
    let world = World::new();
    let dialer = world.dialer(&world.target("nsm.io"), world.identity("x").await);
    let status = Status::from(dialer.dial(Instant::now() + Duration::from_millis(300)).await.unwrap_err());
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("nsm.io.sock was not reached by the deadline"), "{status}");
    let _nsmgr = world.serve("nsm.io").await;
    works(&dialer.dial(soon()).await.unwrap()).await;
}

#[tokio::test]
async fn a_token_that_is_missing_or_wrong_is_denied_and_the_next_call_works() {
    let world = World::new();
    let endpoint = world.serve("nse").await;
    let identity = world.identity("x").await;
    let dialer = world.dialer(&endpoint.target, identity);
    let (wire, other) = (dialer.dial(soon()).await.unwrap(), world.identity("other").await);
    let stranger = world.dialer(&endpoint.target, other).dial(soon()).await.unwrap();
    let token = |wire: &Wire| {
        let call = wire.call((), Some(soon()), HOUR).unwrap();
        call.metadata().get("nsm-client-token").unwrap().clone()
    };
    let giant = AsciiMetadataValue::try_from("e".repeat(17_000)).unwrap();
    let garbage = AsciiMetadataValue::from_static("garbage");
    // Malformed metadata is as good as none.
    let table = [
        ("none", vec![], "tokens_valid"),
        ("two", vec![token(&wire), token(&wire)], "tokens_valid"),
        ("giant", vec![giant], "tokens_valid"),
        ("garbage", vec![garbage], "tokens_valid"),
        ("of another", vec![token(&stranger)], "prev_token_signed"),
    ];
    for (what, tokens, text) in table {
        let mut request = wire.call(message(None), Some(soon()), HOUR).unwrap();
        request.metadata_mut().remove("nsm-client-token");
        for token in tokens {
            request.metadata_mut().append("nsm-client-token", token);
        }
        let status = send(&wire, request).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status}");
        assert!(status.message().contains(text), "{what}: `{}` says `{text}`", status.message());
        works(&wire).await;
    }
    // Neither token nor expiry: the path has no token.
    let mut request = wire.call(message(None), Some(soon()), HOUR).unwrap();
    request.metadata_mut().clear();
    assert_eq!(send(&wire, request).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_descriptor_that_never_comes_is_named_and_the_next_call_works() {
    let world = World::new();
    let endpoint = world.serve("nse").await;
    let wire = world.dialer(&endpoint.target, world.identity("x").await).dial(soon()).await.unwrap();
    let fd = file();
    let inode = Inode::of(&fd).unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    let request = wire.call(message(Some(naming(inode))), Some(deadline), HOUR).unwrap();
    let status = send(&wire, request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains(&format!("the descriptor {inode} did not come")), "{status}");
    let mut request = wire.call(message(Some(naming(inode))), Some(soon()), HOUR).unwrap();
    request.extensions_mut().insert(SendFds(vec![fd]));
    send(&wire, request).await.unwrap();
}

#[tokio::test]
async fn more_descriptors_than_a_connection_carries_are_refused_before_the_call() {
    let world = World::new();
    let endpoint = world.serve("nse").await;
    let wire = world.dialer(&endpoint.target, world.identity("x").await).dial(soon()).await.unwrap();
    let fd = file();
    let mut request = wire.call(message(None), Some(soon()), HOUR).unwrap();
    request.extensions_mut().insert(SendFds(vec![fd; 257]));
    let status = send(&wire, request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().contains("257 descriptors") && status.message().contains("accepted: 256"),
        "{status}"
    );
    works(&wire).await;
}
