// SPDX-License-Identifier: Apache-2.0

//! The Workload API: missing, silent, late, or with an SVID that nobody would accept.

use std::time::{Duration, SystemTime};

use meridio_proxy::{lab::Authority, transport::Identity};
use tokio::{net::UnixListener, time::Instant};
use tonic::{Code, Status};

use crate::world::{HOUR, World, soon};

/// Dial for a second with the identity of pod `x`; the status.
async fn dial(world: &World, identity: Identity) -> Status {
    let endpoint = world.serve("nsmgr").await;
    // The Workload API is local: one answer comes well within this time.
    let error = world.dialer(&endpoint.target, identity).dial(Instant::now() + Duration::from_secs(1)).await;
    error.unwrap_err().into()
}

fn says(status: &Status, text: &str) {
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(text), "`{}` says `{text}`", status.message());
}

#[tokio::test]
async fn a_missing_workload_api_is_named() {
    let world = World::new();
    let identity = Identity::follow("unix:///nowhere/agent.sock", &world.tasks);
    says(
        &dial(&world, identity).await,
        "cannot dial without an identity: no identity yet: the Workload API cannot",
    );
}

#[tokio::test]
async fn a_silent_workload_api_is_named() {
    let world = World::new();
    let socket = world.folder.path().join("silent.sock");
    let _silent = UnixListener::bind(&socket).unwrap();
    let identity = Identity::follow(&format!("unix://{}", socket.display()), &world.tasks);
    let mut standing = identity.subscribe();
    let silent =
        tokio::time::timeout_at(soon(), standing.wait_for(|standing| standing.trouble.is_some())).await;
    assert_eq!(silent.unwrap().unwrap().trouble.as_ref().unwrap().to_string(), "the Workload API is silent");
    says(&dial(&world, identity).await, "the Workload API is silent");
}

#[tokio::test]
async fn a_workload_api_without_an_entry_is_waited_for() {
    let world = World::new();
    let workload = world.workload("x");
    let identity = world.follow(&workload);
    says(&dial(&world, identity.clone()).await, "the Workload API refuses: no identity issued");
    let endpoint = world.serve("late").await;
    let dialer = world.dialer(&endpoint.target, identity);
    let (wire, ()) = tokio::join!(dialer.dial(soon()), async { world.grant(&workload, "x") });
    assert_eq!(wire.unwrap().svid().id(), "spiffe://a.test/ns/default/pod/x");
}

#[tokio::test]
async fn an_expired_svid_and_a_foreign_one_are_refused_with_the_reason() {
    let world = World::new();
    let id = world.authority.pod("default", "x");
    let now = SystemTime::now();
    let expired = world.authority.issue_between(&id, now - HOUR, now - Duration::from_secs(1)).unwrap();
    let mut foreign = Authority::new("a.test").unwrap().issue(&id, HOUR).unwrap();
    foreign.bundle = world.authority.bundle().to_vec();
    let mut cut = world.authority.issue(&id, HOUR).unwrap();
    cut.certificate.truncate(100);
    for (name, issued, reason) in [
        ("expired", expired, "`spiffe://a.test/ns/default/pod/x` has expired"),
        ("foreign", foreign, "`spiffe://a.test/ns/default/pod/x` is not of the bundle of its trust domain"),
        ("cut", cut, "the Workload API gave an SVID that cannot be used: failed to parse"),
    ] {
        let workload = world.workload(name);
        workload.grant(issued);
        let identity = world.follow(&workload);
        says(&dial(&world, identity.clone()).await, reason);
        assert!(identity.current().is_none());
    }
}
