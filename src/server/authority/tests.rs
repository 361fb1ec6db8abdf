// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use super::*;
use crate::{
    server::{health, serve},
    testing::soon,
    transport::{address::Address, listen::Listener},
};

/// The bytes that grpcio 1.85 (Python) sends over `unix:///tmp/health.sock` to check the service
/// with the empty name.
const PYTHON: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x24\x04\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x04\x00\x40\x00\x00\
    \x00\x05\x00\x40\x00\x00\x00\x06\x00\x00\x40\x00\xfe\x03\x00\x00\x00\x01\
    \x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x3f\x00\x01\
    \x00\x00\xee\x01\x04\x00\x00\x00\x01\
    \x40\x05:path\x1c/grpc.health.v1.Health/Check\x40\x0a:authority\x11tmp%2Fhealth.sock\x83\x86\
    \x40\x0ccontent-type\x10application/grpc\x40\x02te\x08trailers\
    \x40\x14grpc-accept-encoding\x17identity, deflate, gzip\x40\x0cgrpc-timeout\x04993m\
    \x40\x0auser-agent0grpc-python/1.85.3 grpc-c/58.0.0 (linux; chttp2)\
    \x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x05\
    \x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\
    \x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x05";

fn followed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    Frames::default().follow(&mut bytes);
    bytes
}

/// The preface, and a frame.
fn framed(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[tokio::test]
async fn a_client_of_grpcs_c_core_is_answered_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("health.sock");
    let listener = Listener::bind_plain(&Address::Unix(path.clone())).await.unwrap();
    let (_reporter, health) = health().await;
    let server = serve(listener, Routes::new(health), std::future::pending(), std::time::Duration::ZERO);
    let _server = AbortOnDropHandle::new(tokio::spawn(server));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(PYTHON).await.unwrap();
    // A DATA frame of the stream, with a message of two bytes: SERVING.
    let expected = b"\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x02\x08\x01";
    let mut got = Vec::new();
    while !got.windows(expected.len()).any(|window| window == expected) {
        let read = tokio::time::timeout_at(soon(), client.read_buf(&mut got)).await;
        assert!(read.is_ok_and(|read| read.unwrap() > 0), "{}", got.escape_ascii());
    }
}

#[test]
fn a_percent_sign_is_changed_in_the_authority_alone() {
    let expected = replaced(PYTHON, "tmp%2Fhealth", "tmp-2Fhealth");
    for split in 0..PYTHON.len() {
        let mut frames = Frames::default();
        let mut bytes = PYTHON.to_vec();
        let (first, second) = bytes.split_at_mut(split);
        frames.follow(first);
        frames.follow(second);
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{split}");
    }
}

#[test]
fn every_way_to_write_an_authority_is_followed_by_the_table() {
    let changed: &[(u8, u8, &[u8])] = &[
        (HEADERS, 4, b"\x41\x04%2Fa"),
        (HEADERS, 4, b"\x01\x04%2Fa"),
        (HEADERS, 4, b"\x11\x04%2Fa"),
        (HEADERS, 4, b"\x00\x0a:authority\x04%2Fa"),
        (HEADERS, 4, b"\xff\x80\x01\x3f\xe1\x1f\x41\x04%2Fa"),
        (HEADERS, 4, b"\x7f\x05\x02%2\x41\x04%2Fa"),
        (HEADERS, 4 | PADDED, b"\x03\x41\x04%2Fapad"),
        (HEADERS, 4 | PRIORITY, b"\x00\x00\x00\x00\x10\x41\x04%2Fa"),
        (HEADERS, 4 | PADDED | PRIORITY, b"\x02\x00\x00\x00\x00\x10\x41\x04%2Fa%%"),
        (HEADERS, 0, b"\x41\x08%2Fa\x00\x00\x04\x09\x04\x00\x00\x00\x01%2Fb"),
    ];
    let left: &[(u8, u8, &[u8])] = &[
        (0, 0, b"\x41\x04%2Fa"),
        (HEADERS, 4, b"\x44\x04%2Fa"),
        (HEADERS, 4, b"\x00\x0a:authorify\x04%2Fa"),
        (HEADERS, 4, b"\x00\x09:authorit\x04%2Fa"),
        (HEADERS, 4, b"\x41\x84%2Fa"),
        (HEADERS, 4, b"\x41\x08[f%25e0]"),
        (HEADERS, 4, b"\x41\xff\xff\xff\xff\xff\xff%2Fa"),
        (HEADERS, 4 | PADDED, b"\x09\x41\x04%2Fa"),
        (HEADERS, 4 | PRIORITY, b"\x41%%"),
    ];
    for (kind, flags, payload) in changed {
        // The length of the first frame, if there are two.
        let mut bytes = framed(*kind, *flags, payload);
        if *flags == 0 {
            bytes[26] = 6;
        }
        let got = followed(&bytes).escape_ascii().to_string();
        assert!(got.contains("-2Fa") && !got.contains("%2F"), "{got}");
    }
    for (kind, flags, payload) in left {
        let bytes = framed(*kind, *flags, payload);
        assert_eq!(followed(&bytes).escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }
}

proptest! {
    #[test]
    fn only_percent_signs_are_ever_changed(payload in prop::collection::vec(any::<u8>(), 0..400), flags: u8) {
        let bytes = framed(HEADERS, flags, &payload);
        for (before, after) in bytes.iter().zip(followed(&bytes)) {
            prop_assert!(*before == after || (*before == b'%' && after == b'-'));
        }
    }
}
