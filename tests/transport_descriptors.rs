// SPDX-License-Identifier: Apache-2.0

//! Tests descriptors in a process of its own, because it counts its open files and lowers their
//! limit.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    future::poll_fn,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use nsm::{
    testing::Authority,
    transport::{Address, FdStream, Identity, Listener, Svid, descriptors},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spiffe::{TrustDomain, X509Bundle, X509BundleSet, X509Context, X509Svid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn file() -> Arc<OwnedFd> {
    Arc::new(fs::File::open("/proc/self/exe").unwrap().into())
}

fn pair() -> (FdStream, FdStream) {
    let (left, right) = UnixStream::pair().unwrap();
    let left = FdStream::new(left);
    let right = FdStream::new(right);
    right.hub().keep_received();
    (left, right)
}

/// Lets this process open only `more` descriptors; returns the previous limit.
fn leave(more: usize) -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    let low = Rlimit { current: Some((open_files() + more) as u64), ..limit };
    setrlimit(Resource::Nofile, low).unwrap();
    limit
}

/// One after the other, because they concern the whole process.
#[tokio::test]
async fn descriptors_neither_leak_nor_run_out() {
    what_nobody_claims_does_not_leak().await;
    what_cannot_be_received_ends_the_connection().await;
    what_peers_send_leaves_a_reserve().await;
    connections_leave_a_reserve().await;
    a_listener_without_descriptors_pauses_and_goes_on().await;
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
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nse.sock");
    let limit = leave(200);
    let listener = Listener::bind(&Address::Unix(path.clone()), identity(&authority)).await;
    let mut listener = listener.unwrap();
    let mut silent = Vec::new();
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

async fn a_listener_without_descriptors_pauses_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let warnings = Warnings::default();
    let _logged = tracing::subscriber::set_default(tracing_subscriber::registry().with(warnings.clone()));
    let path = folder.path().join("health.sock");
    let mut listener = Listener::bind_plain(&Address::Unix(path.clone())).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(UnixStream::connect(&path).await.unwrap());
    }
    let limit = leave(2);
    let mut polls = 0;
    let accepting = poll_fn(|cx| {
        polls += 1;
        listener.poll_next_unpin(cx)
    });
    let accepted = timeout(Duration::from_millis(450), accepting).await;
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(accepted.is_err() && polls < 20, "{polls} polls");
    assert_eq!(warnings.count("cannot accept connections"), 1);
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"PRI").await.unwrap();
    assert!(timeout(Duration::from_secs(10), listener.next()).await.is_ok());
}

/// The warnings in the log.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Text<'a>(&'a mut String);
        impl Visit for Text<'_> {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{value:?} "));
            }
        }
        if *event.metadata().level() == Level::WARN {
            let mut text = String::new();
            event.record(&mut Text(&mut text));
            self.0.lock().unwrap().push(text);
        }
    }
}

fn identity(authority: &Authority) -> Identity {
    let issued = authority.issue(&authority.pod("default", "nse"), Duration::from_secs(3600));
    let svid = X509Svid::parse_from_der(&issued.certificate, &issued.key).unwrap();
    let mut bundles = X509BundleSet::new();
    let domain = TrustDomain::new("a.test").unwrap();
    bundles.add_bundle(X509Bundle::parse_from_der(domain, &issued.bundle).unwrap());
    Identity::fixed(Svid::new(&X509Context::new([svid.into()], bundles)).unwrap().into())
}
