// SPDX-License-Identifier: Apache-2.0

//! Tests acquiring, holding and dropping.

use super::*;

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
async fn b17_a_lease_is_released_some_time_after_its_last_holder() {
    let world = World::new();
    let lease = world.acquire("a").await.unwrap();
    let clone = lease.clone();
    let other = world.acquire("a").await.unwrap();
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
async fn a_lease_acquired_before_its_release_needs_no_call() {
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
    assert!(took < 2 * SECOND + SECOND / 4, "{took:?}");
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
async fn the_task_ends_with_its_last_user() {
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
async fn when_the_task_stops_callers_receive_an_error() {
    let world = World::new();
    world.faults().stand(Fault::Hang);
    let (answer, ()) = tokio::join!(world.acquire("a"), async {
        advance(SECOND).await;
        world.tasks.stop().await;
    });
    assert_eq!(answer.unwrap_err(), LeaseError::Stopped);
    assert_eq!(world.acquire("a").await.unwrap_err(), LeaseError::Stopped);
}
