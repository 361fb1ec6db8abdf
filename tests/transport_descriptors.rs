// SPDX-License-Identifier: Apache-2.0

//! A process of its own: it counts its open files, and lowers the limit of them.
#![allow(clippy::unwrap_used)]

use std::{fs, os::fd::OwnedFd, sync::Arc};

use meridio_proxy::transport::FdStream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn file() -> Arc<OwnedFd> {
    Arc::new(fs::File::open("/proc/self/exe").unwrap().into())
}

fn pair() -> (FdStream, FdStream) {
    let (left, right) = UnixStream::pair().unwrap();
    (FdStream::new(left), FdStream::new(right))
}

/// One test: both halves are about the whole process.
#[tokio::test]
async fn what_nobody_claims_does_not_leak_and_what_cannot_be_received_ends_the_connection() {
    let before = {
        let _warm = pair();
        open_files() - 2
    };
    for _ in 0..20 {
        let (mut left, mut right) = pair();
        for _ in 0..20 {
            for _ in 0..64 {
                left.hub().send(file()).unwrap();
            }
            left.write_all(b"x").await.unwrap();
            right.read_u8().await.unwrap();
        }
        assert!(open_files() <= before + 2 + 256, "bounded: {}", open_files());
    }
    assert_eq!(open_files(), before, "all closed with their connections");

    let (mut left, mut right) = pair();
    for _ in 0..64 {
        left.hub().send(file()).unwrap();
    }
    left.write_all(b"x").await.unwrap();
    let limit = getrlimit(Resource::Nofile);
    let low = Rlimit { current: Some(open_files() as u64 + 10), ..limit };
    setrlimit(Resource::Nofile, low).unwrap();
    let error = right.read_u8().await.unwrap_err();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(error.to_string().contains("descriptors were cut off"), "{error}");
    drop((left, right));
    assert_eq!(open_files(), before);
}
