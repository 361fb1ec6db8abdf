// SPDX-License-Identifier: Apache-2.0

//! Tests the bounds.

use super::*;
use crate::ipam::leases::MAX_HOLDERS;

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
