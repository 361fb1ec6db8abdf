// SPDX-License-Identifier: Apache-2.0

//! Leases over the allocator in memory, with paused time.

use std::{future::Future, time::Duration};

use futures::future::{FutureExt, join_all};
use tokio::time::{Instant, advance, sleep};

use super::{contract::*, *};
use crate::{api::Family, chain::Tasks};

mod model;

const SECOND: Duration = Duration::from_secs(1);

/// Leases with their allocator.
struct World {
    leases: Leases,
    allocator: InMemory,
    tasks: Tasks,
}

impl World {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let (allocator, tasks) = (InMemory::new(tree(), subnet()), Tasks::default());
        let leases = Leases::start(allocator.clone(), settings, &tasks);
        Self { leases, allocator, tasks }
    }

    async fn acquire(&self, child: &str) -> Result<Lease, LeaseError> {
        self.leases.acquire(child, Instant::now() + 15 * SECOND).await
    }

    fn faults(&self) -> &Faults {
        self.allocator.faults()
    }

    fn calls(&self) -> (u64, u64) {
        let calls = self.faults().calls();
        (calls.allocate, calls.release)
    }

    /// Names in the tree, once per family.
    fn children(&self) -> Vec<String> {
        self.allocator.tree().children().into_iter().map(|(name, _)| name).collect()
    }

    fn status(&self) -> Status {
        self.leases.status().borrow().clone()
    }
}

fn texts(lease: &Lease) -> Vec<String> {
    lease.addresses().iter().map(|(_, net)| net.to_string()).collect()
}

fn unavailable() -> AllocateError {
    AllocateError::Unavailable("injected".into())
}

/// The time a future takes.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_one_address_per_family_v4_first() {
    let world = World::new();
    let lease = world.acquire("a-src").await.unwrap();
    assert_eq!(texts(&lease), ["169.255.0.1/24", "fd00::1/64"]);
    assert_eq!(lease.child(), "a-src");
    let v6 = World::with(Settings { families: vec![Family::V6, Family::V6], ..Settings::default() });
    assert_eq!(texts(&v6.acquire("a-src").await.unwrap()), ["fd00::1/64"]);
    assert_eq!(v6.calls(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn l04_the_order_of_families_does_not_depend_on_their_settings() {
    let world = World::with(Settings { families: vec![Family::V6, Family::V4], ..Settings::default() });
    assert_eq!(texts(&world.acquire("a").await.unwrap()), ["169.255.0.1/24", "fd00::1/64"]);
}

#[tokio::test(start_paused = true)]
async fn a_held_lease_is_granted_without_a_call() {
    let world = World::new();
    let first = world.acquire("a").await.unwrap();
    world.faults().stand(Fault::Hang);
    let again = world.acquire("a").await.unwrap();
    assert_eq!(first.addresses(), again.addresses());
    assert_eq!(world.calls(), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn b17_a_lease_is_released_some_time_after_its_last_holder_is_gone() {
    let world = World::new();
    let lease = world.acquire("a").await.unwrap();
    let (clone, other) = (lease.clone(), world.acquire("a").await.unwrap());
    drop(lease);
    drop(other);
    sleep(60 * SECOND).await;
    assert_eq!(world.children(), ["a", "a"], "a clone still holds it");
    drop(clone);
    sleep(19 * SECOND).await;
    assert_eq!(world.children(), ["a", "a"], "not before the delay");
    assert_eq!(world.status().releasing, 1);
    sleep(2 * SECOND).await;
    assert!(world.children().is_empty(), "{:?}", world.children());
    assert_eq!(world.status(), Status::default());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_acquired_again_before_its_release_is_the_same_without_a_call() {
    let world = World::new();
    let before = world.acquire("a").await.unwrap().addresses();
    sleep(19 * SECOND).await;
    let lease = world.acquire("a").await.unwrap();
    assert_eq!(lease.addresses(), before);
    sleep(60 * SECOND).await;
    assert_eq!((world.calls(), world.children().len()), ((2, 0), 2), "the old release does not come back");
}

#[tokio::test(start_paused = true)]
async fn l05_five_leases_take_as_long_as_one_and_a_held_one_no_time() {
    let world = World::new();
    let held = world.acquire("held").await.unwrap();
    world.faults().stand(Fault::Delay(2 * SECOND));
    let joining = join_all((0..5).map(|n| async move { format!("target-{n}") }).map(|name| async {
        let name = name.await;
        world.acquire(&name).await
    }));
    let standing = timed(world.acquire("held"));
    let ((joined, took), (refreshed, waited)) = tokio::join!(timed(joining), standing);
    assert!(joined.iter().all(Result::is_ok), "{joined:?}");
    assert!(took < 2 * SECOND + SECOND / 10, "{took:?}");
    assert!(waited < SECOND / 10, "{waited:?}");
    assert_eq!(refreshed.unwrap().addresses(), held.addresses());
}

#[tokio::test(start_paused = true)]
async fn callers_of_one_name_share_one_round_of_calls() {
    let world = World::new();
    world.faults().stand(Fault::Delay(SECOND));
    let leases = join_all((0..8).map(|_| world.acquire("a"))).await;
    assert!(leases.iter().all(Result::is_ok));
    assert_eq!(world.calls(), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_stop_the_call_and_the_next_finds_its_result() {
    let world = World::new();
    world.faults().stand(Fault::Delay(5 * SECOND));
    let left = world.leases.acquire("a", Instant::now() + SECOND).await;
    assert_eq!(left.unwrap_err(), LeaseError::Deadline);
    let (lease, took) = timed(world.acquire("a")).await;
    assert!(took < 5 * SECOND, "{took:?}");
    assert_eq!((texts(&lease.unwrap()).len(), world.calls()), (2, (2, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_was_allocated_for_a_caller_that_left_is_released() {
    let world = World::new();
    world.faults().stand(Fault::Delay(5 * SECOND));
    assert!(world.leases.acquire("a", Instant::now() + SECOND).await.is_err());
    sleep(10 * SECOND).await;
    assert_eq!(world.children().len(), 2, "it was allocated");
    sleep(60 * SECOND).await;
    assert!(world.children().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_partial_allocation_is_an_error_and_is_rolled_back() {
    let world = World::new();
    let full = AllocateError::Exhausted("no more prefix available".into());
    world.faults().script([Fault::None, Fault::Fail(full.clone())]);
    let error = world.acquire("a").await.unwrap_err();
    assert_eq!(error, LeaseError::Allocate { child: "a".into(), family: Family::V6, source: full });
    assert_eq!(error.to_string(), "no IPv6 address for `a`");
    assert_eq!(world.children(), ["a"]);
    sleep(30 * SECOND).await;
    assert!(world.children().is_empty());
    assert_eq!(world.status().releasing, 0);
}

#[tokio::test(start_paused = true)]
async fn l06_a_retry_after_a_partial_allocation_stops_its_roll_back() {
    let world = World::new();
    world.faults().script([Fault::None, Fault::Fail(unavailable())]);
    assert!(world.acquire("a").await.is_err());
    let lease = world.acquire("a").await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!((texts(&lease).len(), world.children().len()), (2, 2));
    drop(lease);
    sleep(60 * SECOND).await;
    assert!(world.children().is_empty(), "and its end is not forgotten");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_does_not_lose_the_address() {
    let world = World::new();
    world.faults().stand(Fault::Lose(AllocateError::Deadline));
    assert!(world.acquire("a").await.is_err());
    world.faults().clear();
    assert_eq!(world.children().len(), 2);
    sleep(60 * SECOND).await;
    assert!(world.children().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_released_where_nothing_can_have_been_allocated() {
    let world = World::new();
    world.faults().stand(Fault::Fail(AllocateError::Exhausted("no more prefix available".into())));
    assert!(world.acquire("a").await.is_err());
    sleep(60 * SECOND).await;
    assert_eq!(world.calls(), (2, 0));
    assert_eq!((world.status().wanted, world.status().releasing), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn l06_a_release_in_flight_is_awaited_before_the_name_is_allocated_again() {
    let world = World::new();
    drop(world.acquire("a").await.unwrap());
    world.faults().stand(Fault::Delay(5 * SECOND));
    sleep(21 * SECOND).await;
    assert_eq!(world.calls(), (2, 2), "the releases are in flight");
    world.faults().clear();
    let (lease, took) = timed(world.acquire("a")).await;
    assert!(took > 3 * SECOND, "{took:?}");
    sleep(30 * SECOND).await;
    assert_eq!((world.calls(), world.children().len()), ((4, 2), 2), "{lease:?}");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_tried_until_it_succeeds() {
    let world = World::new();
    drop(world.acquire("a").await.unwrap());
    world.faults().stand(Fault::Fail(unavailable()));
    sleep(180 * SECOND).await;
    let (_, releases) = world.calls();
    assert!((8..=16).contains(&releases), "twice as long each time, both families: {releases}");
    assert_eq!(world.status().last_error, Some(unavailable()));
    world.faults().clear();
    sleep(70 * SECOND).await;
    assert!(world.children().is_empty());
    assert_eq!(world.status().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_follows_a_doubtful_release_is_renewed_early() {
    let world = World::new();
    drop(world.acquire("a").await.unwrap());
    world.faults().stand(Fault::Hang);
    sleep(21 * SECOND).await;
    world.faults().clear();
    let _lease = world.acquire("a").await.unwrap();
    assert_eq!(world.calls(), (4, 2));
    sleep(12 * SECOND).await;
    assert_eq!(world.calls(), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_with_its_timeout() {
    let world = World::new();
    world.faults().stand(Fault::Hang);
    let (error, took) = timed(world.acquire("a")).await;
    assert!(took < 11 * SECOND, "{took:?}");
    let source = AllocateError::Deadline;
    assert_eq!(error.unwrap_err(), LeaseError::Allocate { child: "a".into(), family: Family::V4, source });
}

#[tokio::test(start_paused = true)]
async fn garbage_is_an_error_that_names_it() {
    let world = World::new();
    world.faults().script([Fault::Garble("banana".into(), 24)]);
    let error = std::error::Error::source(&world.acquire("a").await.unwrap_err()).unwrap().to_string();
    assert!(error.contains("`banana/24`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn b03_a_lease_is_renewed_as_long_as_it_is_held_and_as_often_as_asked() {
    let world = World::new();
    let lease = world.acquire("a").await.unwrap();
    let deadline = Instant::now() + SECOND;
    let bridge = world.leases.acquire_renewed("bridge", 300 * SECOND, deadline).await.unwrap();
    assert_eq!(world.calls(), (4, 0));
    sleep(335 * SECOND).await;
    assert_eq!(world.calls(), (6, 0), "the bridge");
    sleep(326 * SECOND).await;
    assert_eq!(world.calls(), (10, 0), "both");
    drop((lease, bridge));
    sleep(30 * SECOND).await;
    let after = world.calls();
    sleep(3_600 * SECOND).await;
    assert_eq!(world.calls(), after, "never again");
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_tried_again_and_the_lease_stays() {
    let world = World::new();
    let lease = world.acquire("a").await.unwrap();
    world.faults().stand(Fault::Fail(unavailable()));
    sleep(670 * SECOND).await;
    assert!(world.status().failures > 0);
    assert_eq!(world.status().held, 1);
    world.faults().clear();
    let before = world.calls();
    sleep(70 * SECOND).await;
    assert_eq!(world.calls(), (before.0 + 2, 0), "soon, and then not again");
    assert_eq!(world.acquire("a").await.unwrap().addresses(), lease.addresses());
}

#[tokio::test(start_paused = true)]
async fn b03_a_renewal_that_answers_differently_is_reported_and_changes_nothing_until_the_next_caller() {
    let world = World::new();
    let lease = world.acquire("a").await.unwrap();
    world.faults().script([Fault::Garble("169.255.0.77".into(), 24), Fault::None]);
    sleep(670 * SECOND).await;
    assert_eq!(world.status().moved, 1);
    assert_eq!(texts(&lease), ["169.255.0.1/24", "fd00::1/64"]);
    let next = world.acquire("a").await.unwrap();
    assert_eq!(texts(&next), ["169.255.0.77/24", "fd00::1/64"]);
    assert_eq!((world.status().moved, world.status().held), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_flush_releases_what_nobody_holds_and_leaves_what_is_held() {
    let world = World::new();
    let (target, client) = (world.acquire("target").await.unwrap(), world.acquire("client").await.unwrap());
    drop(client);
    let ((), took) = timed(world.leases.flush(Instant::now() + 5 * SECOND)).await;
    assert!(took < SECOND, "{took:?}");
    assert_eq!(world.children(), ["target", "target"]);
    drop(target);
    sleep(3_600 * SECOND).await;
    assert_eq!(world.children(), ["target", "target"], "for the successor");
    assert_eq!(world.calls().1, 2);
    assert_eq!(world.acquire("target").await.unwrap_err(), LeaseError::Stopped);
    assert!(world.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flush_tries_until_its_deadline_and_not_longer() {
    let world = World::new();
    drop(world.acquire("a").await.unwrap());
    world.faults().script([Fault::Fail(unavailable()), Fault::Fail(unavailable())]);
    let ((), took) = timed(world.leases.flush(Instant::now() + 5 * SECOND)).await;
    assert!(took < SECOND && world.children().is_empty(), "{took:?}");

    let world = World::new();
    drop(world.acquire("a").await.unwrap());
    world.faults().stand(Fault::Hang);
    let ((), took) = timed(world.leases.flush(Instant::now() + 5 * SECOND)).await;
    assert!((5 * SECOND..6 * SECOND).contains(&took), "{took:?}");
    assert!(world.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_during_a_flush_gets_its_lease() {
    let world = World::new();
    world.faults().stand(Fault::Delay(2 * SECOND));
    let (lease, ()) = tokio::join!(world.acquire("a"), async {
        advance(SECOND).await;
        world.leases.flush(Instant::now() + 5 * SECOND).await;
    });
    assert_eq!(texts(&lease.unwrap()).len(), 2);
    assert_eq!(world.children().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_allocation_whose_caller_left_is_released_by_a_flush() {
    let world = World::new();
    world.faults().stand(Fault::Delay(2 * SECOND));
    assert!(world.leases.acquire("a", Instant::now() + SECOND).await.is_err());
    world.leases.flush(Instant::now() + 5 * SECOND).await;
    assert!(world.children().is_empty());
}

#[tokio::test(start_paused = true)]
async fn names_and_numbers_are_bounded() {
    let world = World::new();
    for length in [0, MAX_NAME + 1] {
        assert_eq!(world.acquire(&"x".repeat(length)).await.unwrap_err(), LeaseError::Name { length });
    }
    let _longest = world.acquire(&"x".repeat(MAX_NAME)).await.unwrap();

    let v6 = World::with(Settings { families: vec![Family::V6], ..Settings::default() });
    v6.faults().stand(Fault::Hang);
    let waiting = (0..MAX_LEASES).map(|n| {
        let leases = v6.leases.clone();
        async move { leases.acquire(&n.to_string(), Instant::now() + 15 * SECOND).await }.boxed()
    });
    let mut waiting = waiting.collect::<futures::stream::FuturesUnordered<_>>();
    assert!(futures::poll!(futures::StreamExt::next(&mut waiting)).is_pending());
    while v6.status().wanted < MAX_LEASES {
        assert!(futures::poll!(futures::StreamExt::next(&mut waiting)).is_pending());
        tokio::task::yield_now().await;
    }
    let limit = MAX_LEASES;
    assert_eq!(v6.acquire("one-too-many").await.unwrap_err(), LeaseError::TooMany { limit });
}

#[tokio::test(start_paused = true)]
async fn holders_are_bounded_and_their_end_makes_room() {
    let world = World::new();
    let mut held = Vec::new();
    for _ in 0..MAX_HOLDERS {
        held.push(world.acquire("a").await.unwrap());
    }
    let limit = MAX_HOLDERS;
    assert_eq!(world.acquire("a").await.unwrap_err(), LeaseError::TooMany { limit });
    held.truncate(MAX_HOLDERS / 2);
    sleep(SECOND).await;
    drop(world.acquire("a").await.unwrap());
    drop(held);
    sleep(60 * SECOND).await;
    assert!(world.children().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_when_nobody_is_left() {
    let World { leases, allocator, tasks } = World::new();
    let lease = leases.acquire("a", Instant::now() + SECOND).await.unwrap();
    drop(leases);
    sleep(60 * SECOND).await;
    assert_eq!(tasks.len(), 1);
    drop(lease);
    sleep(60 * SECOND).await;
    assert!(tasks.is_empty() && allocator.tree().children().is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_the_task_is_stopped_callers_are_told() {
    let world = World::new();
    world.faults().stand(Fault::Hang);
    let (answer, ()) = tokio::join!(world.acquire("a"), async {
        advance(SECOND).await;
        world.tasks.stop().await;
    });
    assert_eq!(answer.unwrap_err(), LeaseError::Stopped);
    assert_eq!(world.acquire("a").await.unwrap_err(), LeaseError::Stopped);
}
