// SPDX-License-Identifier: Apache-2.0

//! Tests renewals.

use super::*;

#[tokio::test(start_paused = true)]
async fn b03_a_lease_is_renewed_at_its_interval_while_it_is_held() {
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
async fn b03_other_addresses_on_a_renewal_wait_for_the_next_caller() {
    let world = World::new();
    let lease = world.acquire("a").await.unwrap();
    world.faults().script([Fault::Garble("169.255.0.77".into(), 24), Fault::None]);
    sleep(670 * SECOND).await;
    assert_eq!(world.status().moved.len(), 1);
    assert_eq!(texts(&lease), ["169.255.0.1/24", "fd00::1/64"]);
    let next = world.acquire("a").await.unwrap();
    assert_eq!(texts(&next), ["169.255.0.77/24", "fd00::1/64"]);
    assert_eq!((world.status().moved.len(), world.status().held), (0, 1));
}
