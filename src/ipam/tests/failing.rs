// SPDX-License-Identifier: Apache-2.0

//! Tests callers that leave, calls that fail, and answers that are lost.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_continues_when_its_caller_leaves() {
    let world = World::new();
    world.faults().stand(Fault::Delay(5 * SECOND));
    let left = world.leases.acquire("a", Instant::now() + SECOND).await;
    assert_eq!(left.unwrap_err(), LeaseError::Deadline);
    let (lease, took) = timed(world.acquire("a")).await;
    assert!(took < 5 * SECOND, "{took:?}");
    assert_eq!((texts(&lease.unwrap()).len(), world.calls()), (2, (2, 0)));
}

#[tokio::test(start_paused = true)]
async fn addresses_allocated_for_a_cancelled_caller_are_released() {
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
async fn l06_an_allocate_waits_for_the_release_of_its_name() {
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
