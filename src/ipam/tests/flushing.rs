// SPDX-License-Identifier: Apache-2.0

//! Tests the shutdown.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_flush_releases_only_leases_without_a_holder() {
    let world = World::new();
    let target = world.acquire("target").await.unwrap();
    let client = world.acquire("client").await.unwrap();
    drop(client);
    let (_, took) = timed(world.leases.flush(Instant::now() + 5 * SECOND)).await;
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
    let (_, took) = timed(world.leases.flush(Instant::now() + 5 * SECOND)).await;
    assert!(took < SECOND && world.children().is_empty(), "{took:?}");

    let world = World::new();
    drop(world.acquire("a").await.unwrap());
    world.faults().stand(Fault::Hang);
    let (_, took) = timed(world.leases.flush(Instant::now() + 5 * SECOND)).await;
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
