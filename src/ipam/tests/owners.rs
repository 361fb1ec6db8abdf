// SPDX-License-Identifier: Apache-2.0

//! Tests leases under a name that several owners use.

use super::*;
use crate::chain::Owner;

impl World {
    async fn acquire_for(&self, child: &str, owner: &str) -> Lease {
        let owner = Owner::new(format!("spiffe://a.test/ns/{owner}/pod/a"));
        self.leases.acquire_for(child, Some(&owner), Instant::now() + 15 * SECOND).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_owner_of_a_name_gets_a_lease_of_its_own() {
    let world = World::new();
    let one = world.acquire_for("a-src", "one").await;
    let two = world.acquire_for("a-src", "two").await;
    assert_eq!((one.child(), texts(&one)), ("a-src", texts(&world.acquire_for("a-src", "one").await)));
    assert_eq!(texts(&one), ["169.255.0.1/24", "fd00::1/64"]);
    assert_eq!(texts(&two), ["169.255.0.2/24", "fd00::2/64"]);
    let suffix = two.child().strip_prefix("a-src@").unwrap();
    assert!(suffix.len() == 32 && suffix.chars().all(|c| c.is_ascii_hexdigit()), "{suffix}");
}

#[tokio::test(start_paused = true)]
async fn at_once_both_owners_of_a_name_get_different_addresses() {
    let world = World::new();
    world.faults().stand(Fault::Delay(SECOND));
    let (one, two) = tokio::join!(world.acquire_for("a-src", "one"), world.acquire_for("a-src", "two"));
    assert_ne!(one.addresses(), two.addresses());
}

#[tokio::test(start_paused = true)]
async fn a_name_stays_its_first_owners_until_it_is_released() {
    let world = World::new();
    let before = world.acquire_for("a-src", "one").await.addresses(); // and dropped
    sleep(19 * SECOND).await;
    let two = world.acquire_for("a-src", "two").await;
    assert_ne!(two.addresses(), before, "the first one may come back");
    assert_eq!(world.acquire_for("a-src", "one").await.addresses(), before, "as it does");
    sleep(60 * SECOND).await;
    assert_eq!(world.acquire_for("a-src", "two").await.child(), two.child(), "who has a lease keeps it");
    drop(two);
    sleep(60 * SECOND).await;
    assert_eq!(world.acquire_for("a-src", "two").await.child(), "a-src", "now the name is free");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_the_proxy_is_not_had_by_asking_for_it() {
    let world = World::new();
    let own = world.acquire("px-lb-1-src").await.unwrap();
    let stranger = world.acquire_for("px-lb-1-src", "stranger").await;
    assert_ne!(own.addresses(), stranger.addresses());
    let suffixed = world.acquire_for(stranger.child(), "other").await;
    assert_ne!(suffixed.addresses(), stranger.addresses());
}

#[tokio::test(start_paused = true)]
async fn an_owner_finds_its_lease_again_in_a_later_process() {
    let world = World::new();
    let one = world.acquire_for("a-src", "one").await;
    let two = world.acquire_for("a-src", "two").await;
    let records = world.leases.records().await.unwrap();
    let allocator = world.allocator.clone();
    let tasks = Tasks::default();
    let leases = Leases::resume(allocator.clone(), Settings::default(), records, &tasks);
    let later = World { leases, allocator, tasks };
    let two_again = later.acquire_for("a-src", "two").await;
    let one_again = later.acquire_for("a-src", "one").await;
    assert_eq!(one.addresses(), one_again.addresses());
    assert_eq!(two.addresses(), two_again.addresses(), "although it came first");
}
