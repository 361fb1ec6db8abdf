// SPDX-License-Identifier: Apache-2.0

//! Tests the published state of a discovery over time, with a registry in memory.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::*;
use crate::{
    api::pb::registry::NetworkServiceEndpoint,
    registry::twin::{Fault, Twin},
};

const S: fn(u64) -> Duration = Duration::from_secs;

fn endpoint(name: &str, service: &str) -> NetworkServiceEndpoint {
    expiring(name, service, SystemTime::now() + S(60))
}

fn expiring(name: &str, service: &str, expires: SystemTime) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.into(),
        network_service_names: vec![service.into()],
        expiration_time: Some(expires.into()),
        ..Default::default()
    }
}

struct World {
    twin: Twin,
    discovery: Discovery,
    dead: Arc<AtomicBool>,
    start: Instant,
}

impl World {
    /// A registry with these endpoints of `lb`, and one of another service.
    async fn with(names: &[&str]) -> Self {
        let twin = Twin::default();
        let dead = Arc::<AtomicBool>::default();
        for name in names {
            twin.put(endpoint(name, "lb"));
        }
        twin.put(endpoint("other", "not-lb"));
        let is_dead = Arc::clone(&dead);
        let is_dead: Dead = Arc::new(move |_| is_dead.load(Ordering::Relaxed));
        let discovery = Discovery::start(twin.clone(), "lb", is_dead, Settings::default());
        let world = Self { twin, discovery, dead, start: Instant::now() };
        world.until("complete", |known| known.complete).await;
        world
    }

    fn names(&self) -> String {
        names(&self.discovery.known().borrow())
    }

    async fn until(&self, what: &str, is: impl Fn(&Discovered) -> bool) {
        let mut known = self.discovery.known();
        let reached = timeout(S(600), known.wait_for(|known| is(known))).await.map(|known| known.is_ok());
        assert!(reached.is_ok_and(|ok| ok), "{what}: still {:?}", self.discovery.known().borrow());
    }
}

fn names(known: &Discovered) -> String {
    known.endpoints.keys().cloned().collect::<Vec<_>>().join(" ")
}

fn unavailable() -> crate::registry::Error {
    Status::unavailable("down").into()
}

#[tokio::test(start_paused = true)]
async fn finds_those_of_the_service_and_follows_changes_at_once() {
    let world = World::with(&["a", "b"]).await;
    assert_eq!(world.names(), "a b");
    let before = world.start.elapsed();
    world.twin.put(endpoint("c", "lb"));
    world.until("added", |known| names(known) == "a b c").await;
    world.twin.lapse("a");
    world.until("removed", |known| names(known) == "b c").await;
    world.twin.lapse("other");
    assert_eq!(world.start.elapsed(), before, "by the watch, not by a list");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_not_a_change() {
    let world = World::with(&["a"]).await;
    let mut known = world.discovery.known();
    known.mark_unchanged();
    for _ in 0..5 {
        sleep(S(40)).await;
        world.twin.put(endpoint("a", "lb"));
    }
    assert!(!known.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_a_watch_missed_is_in_the_list() {
    let world = World::with(&["a"]).await;
    world.twin.fail(Fault::Find, unavailable);
    world.twin.end_watches();
    sleep(S(1)).await;
    world.twin.put(endpoint("b", "lb"));
    assert_eq!(world.names(), "a");
    world.twin.mend();
    let mended = Instant::now();
    world.until("found", |known| names(known) == "a b").await;
    assert!(mended.elapsed() < S(7), "{:?}", mended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_every_30_s_and_when_a_watch_ends() {
    let world = World::with(&["a"]).await;
    sleep(S(70)).await;
    world.twin.end_watches();
    sleep(S(10)).await;
    let lists: Vec<_> =
        world.twin.calls(world.start).into_iter().filter(|(_, call)| call == "find watch=false").collect();
    assert_eq!(lists.into_iter().map(|(at, _)| at).collect::<Vec<_>>(), [0, 30, 60, 70]);
    assert_eq!(world.twin.watches(), 1, "and the watch is open again");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_registry_removes_nothing_however_long() {
    let world = World::with(&["a", "b"]).await;
    world.dead.store(true, Ordering::Relaxed);
    world.twin.fail(Fault::Find, unavailable);
    world.twin.end_watches();
    sleep(S(3600)).await;
    assert_eq!(world.names(), "a b");
    let failure = world.discovery.known().borrow().failure.clone();
    assert!(failure.is_some_and(|text| text.contains("Unavailable: down")));
    let count = world.twin.count("find");
    assert!(count < 2 * 3600 / 4 + 20, "{count} calls in an hour");
    world.twin.mend();
    world.until("no failure", |known| known.failure.is_none()).await;
    assert_eq!(world.names(), "a b");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_manager_with_an_empty_registry_removes_nothing() {
    let world = World::with(&["a", "b"]).await;
    world.dead.store(true, Ordering::Relaxed); // all monitors broke with the manager
    world.twin.restart();
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        world.twin.end_watches(); // and the watches end again and again
    }
    world.twin.put(endpoint("a", "lb"));
    world.twin.put(endpoint("b", "lb"));
    sleep(S(300)).await;
    assert_eq!(world.names(), "a b");
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_is_removed_after_two_lists_without_it() {
    for dead in [true, false] {
        let world = World::with(&["a", "b"]).await;
        world.dead.store(dead, Ordering::Relaxed);
        world.twin.lose("a");
        sleep(S(31)).await;
        assert_eq!(world.names(), "a b");
        sleep(S(30)).await;
        assert_eq!(world.names(), if dead { "b" } else { "a b" });
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_whose_clock_is_behind_makes_no_endpoint_flap() {
    let world = World::with(&["a"]).await;
    world.dead.store(true, Ordering::Relaxed);
    let refresh = || expiring("a", "lb", SystemTime::now() + S(60) - S(90));
    world.twin.put(refresh());
    let mut known = world.discovery.known();
    known.mark_unchanged();
    for _ in 0..20 {
        sleep(S(40)).await;
        world.twin.put(refresh());
    }
    assert!(!known.has_changed().unwrap(), "{:?}", *known.borrow());
    assert_eq!(world.names(), "a");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_expired_an_hour_ago_is_not_taken() {
    let world = World::with(&["a"]).await;
    let ago = |seconds| expiring("b", "lb", SystemTime::now() - S(seconds));
    world.twin.put(ago(3600));
    for _ in 0..10 {
        sleep(S(20)).await;
        world.twin.end_watches(); // each new watch reports it again
        assert_eq!(world.names(), "a");
    }
    assert_eq!(world.discovery.known().borrow().aside, ["b".to_owned()].into());
    world.twin.put(ago(3560));
    world.until("refreshed", |known| names(known) == "a b" && known.aside.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn watches_and_lists_that_end_at_once_are_no_tight_loop() {
    let world = World::with(&["a"]).await;
    for _ in 0..6000 {
        world.twin.end_watches();
        sleep(Duration::from_millis(10)).await;
    }
    let count = world.twin.count("find");
    assert!((20..60).contains(&count), "{count} in 60 s");
    assert_eq!(world.names(), "a");
}

#[tokio::test(start_paused = true)]
async fn more_endpoints_than_the_bound_are_left_out() {
    let twin = Twin::default();
    for n in 0..1500 {
        twin.put(endpoint(&format!("lb{n:04}"), "lb"));
    }
    let discovery = Discovery::start(twin, "lb", Arc::new(|_| false), Settings::default());
    let mut known = discovery.known();
    let seen = Mutex::new(0);
    known
        .wait_for(|known| {
            *seen.lock().unwrap() = known.endpoints.len();
            known.complete
        })
        .await
        .unwrap();
    sleep(S(1)).await;
    assert_eq!(discovery.known().borrow().endpoints.len(), 1024);
    assert!(*seen.lock().unwrap() <= 1024);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_discovery_ends_its_watch() {
    let World { twin, discovery, .. } = World::with(&["a"]).await;
    let mut known = discovery.known();
    drop(discovery);
    while known.changed().await.is_ok() {}
    assert_eq!(twin.watches(), 0);
}
