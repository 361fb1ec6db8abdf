// SPDX-License-Identifier: Apache-2.0

//! A process of its own: it counts its open files, and lowers the limit of them.
#![allow(clippy::unwrap_used)]

use std::{fs, os::fd::OwnedFd, sync::Arc, time::Duration};

use futures::StreamExt;
use meridio_proxy::{
    lab::Authority,
    transport::{FdStream, Identity, Listener, Svid, Target, descriptors},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spiffe::{TrustDomain, X509Bundle, X509BundleSet, X509Context, X509Svid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn file() -> Arc<OwnedFd> {
    Arc::new(fs::File::open("/proc/self/exe").unwrap().into())
}

fn pair() -> (FdStream, FdStream) {
    let (left, right) = UnixStream::pair().unwrap();
    let (left, right) = (FdStream::new(left), FdStream::new(right));
    right.hub().keep_received();
    (left, right)
}

/// Let this process open `more` descriptors; returns the limit that there was.
fn leave(more: usize) -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    let low = Rlimit { current: Some((open_files() + more) as u64), ..limit };
    setrlimit(Resource::Nofile, low).unwrap();
    limit
}

/// One at a time: they are about the whole process.
#[tokio::test]
async fn descriptors_neither_leak_nor_run_out() {
    what_nobody_claims_does_not_leak().await;
    what_cannot_be_received_ends_the_connection().await;
    what_peers_send_leaves_a_reserve().await;
    connections_leave_a_reserve().await;
}

async fn what_nobody_claims_does_not_leak() {
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
}

async fn what_cannot_be_received_ends_the_connection() {
    let before = open_files();
    let (mut left, mut right) = pair();
    for _ in 0..64 {
        left.hub().send(file()).unwrap();
    }
    left.write_all(b"x").await.unwrap();
    let limit = leave(10);
    let error = right.read_u8().await.unwrap_err();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(error.to_string().contains("descriptors were cut off"), "{error}");
    drop((left, right));
    assert_eq!(open_files(), before);
}

async fn what_peers_send_leaves_a_reserve() {
    let before = open_files();
    let (mut left, mut right) = pair();
    let limit = leave(80);
    for _ in 0..64 {
        left.hub().send(file()).unwrap();
    }
    left.write_all(b"x").await.unwrap();
    right.read_u8().await.unwrap();
    let kept = right.hub().unclaimed();
    assert!(kept > 0 && kept < 64, "{kept}");
    drop(left);
    let own: Vec<_> = (0..descriptors::reserve()).map(|_| file()).collect();
    setrlimit(Resource::Nofile, limit).unwrap();
    drop((right, own));
    assert_eq!(open_files(), before);
}

async fn connections_leave_a_reserve() {
    let (authority, folder) = (Authority::new("a.test").unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("nse.sock");
    let limit = leave(200);
    let listener = Listener::bind(&Target::Unix(path.clone()), identity(&authority)).await;
    let (mut listener, mut silent) = (listener.unwrap(), Vec::new());
    for _ in 0..100 {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    let before = open_files();
    assert!(timeout(Duration::from_millis(300), listener.next()).await.is_err());
    let accepted = open_files() - before;
    let own: Vec<_> = (0..descriptors::reserve()).map(|_| file()).collect();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!((8..50).contains(&accepted), "{accepted}");
    drop((own, silent));
}

fn identity(authority: &Authority) -> Identity {
    let issued = authority.issue(&authority.pod("default", "nse"), Duration::from_secs(3600)).unwrap();
    let svid = X509Svid::parse_from_der(&issued.certificate, &issued.key).unwrap();
    let mut bundles = X509BundleSet::new();
    let domain = TrustDomain::new("a.test").unwrap();
    bundles.add_bundle(X509Bundle::parse_from_der(domain, &issued.bundle).unwrap());
    Identity::fixed(Svid::new(&X509Context::new([svid.into()], bundles)).unwrap().into())
}
