// SPDX-License-Identifier: Apache-2.0

//! Tests leases that an earlier process held.

use super::*;

impl World {
    fn resumed(records: Vec<Record>) -> Self {
        let allocator = InMemory::new(tree(), subnet());
        let tasks = Tasks::default();
        let leases = Leases::resume(allocator.clone(), Settings::default(), records, &tasks);
        Self { leases, allocator, tasks }
    }

    async fn names(&self) -> Vec<String> {
        let records = self.leases.records().await.unwrap();
        records.iter().map(|record| record.child.to_string()).collect()
    }
}

fn record(child: &str, v4: &str, v6: &str) -> Record {
    let addresses = crate::api::Dual { v4: v4.parse().ok(), v6: v6.parse().ok() };
    Record { child: child.into(), owner: None, addresses }
}

fn a() -> Record {
    record("a", "169.255.0.1/24", "fd00::1/64")
}

#[tokio::test(start_paused = true)]
async fn a_restored_lease_is_granted_while_the_service_is_away() {
    let world = World::resumed(vec![a()]);
    world.faults().stand(Fault::Hang);
    let (lease, took) = timed(world.acquire("a")).await;
    let lease = lease.unwrap();
    assert_eq!((lease.addresses(), took), (a().addresses, Duration::ZERO));
    sleep(1800 * SECOND).await;
    assert_eq!((world.status().held, world.status().unverified), (1, 1));
    world.faults().clear();
    sleep(80 * SECOND).await; // a call that hangs, and the longest pause
    assert_eq!((world.status().held, world.status().unverified, world.status().moved.len()), (1, 0, 0));
    assert_eq!(world.children(), ["a", "a"], "the service knows it again");
}

#[tokio::test(start_paused = true)]
async fn of_a_restored_lease_the_service_decides() {
    let world = World::resumed(vec![record("a", "169.255.0.9/24", "fd00::9/64")]);
    let before = world.acquire("a").await.unwrap();
    assert_eq!(texts(&before), ["169.255.0.9/24", "fd00::9/64"]);
    sleep(SECOND).await;
    assert_eq!((world.status().unverified, world.status().moved.len()), (0, 1));
    let now = world.acquire("a").await.unwrap();
    assert_eq!(texts(&now), ["169.255.0.1/24", "fd00::1/64"]);
}

#[tokio::test(start_paused = true)]
async fn an_address_given_to_another_name_is_not_restored() {
    let world = World::resumed(vec![a()]);
    let other = world.acquire("b").await.unwrap();
    assert_eq!(other.addresses(), a().addresses, "the service does not know the earlier process");
    let lease = world.acquire("a").await.unwrap();
    assert_eq!(texts(&lease), ["169.255.0.2/24", "fd00::2/64"]);
}

#[tokio::test(start_paused = true)]
async fn all_restored_leases_are_confirmed_when_the_service_is_back() {
    let records: Vec<_> = (2..62)
        .map(|n| record(&format!("child-{n:02}"), &format!("169.255.0.{n}/24"), &format!("fd00::{n:x}/64")))
        .collect();
    let world = World::resumed(records.clone());
    world.faults().stand(Fault::Fail(unavailable()));
    let mut held = Vec::new();
    for record in &records {
        held.push(world.acquire(&record.child).await.unwrap());
    }
    sleep(600 * SECOND).await;
    assert_eq!(world.status().unverified, 60);
    world.faults().clear();
    let mut status = world.leases.status();
    status.wait_for(|status| status.unverified < 60).await.unwrap();
    sleep(6 * SECOND).await;
    assert_eq!(world.status().unverified, 0);
}

#[tokio::test(start_paused = true)]
async fn one_moved_lease_has_all_others_renewed_soon() {
    let world = World::new();
    let mut held = Vec::new();
    for n in 0..50 {
        held.push(world.acquire(&format!("child-{n}")).await.unwrap());
    }
    let deadline = Instant::now() + 15 * SECOND;
    let _bridge = world.leases.acquire_renewed("bridge", 60 * SECOND, deadline).await.unwrap();
    world.allocator.tree().remove_conduit("load-balancer");
    world.allocator.tree().add_conduit("other").unwrap();
    world.allocator.tree().add_conduit("load-balancer").unwrap();
    let calls = world.calls();
    sleep(80 * SECOND).await;
    assert_eq!(world.status().moved.len(), 51, "the subnet is another one");
    let made = world.calls().0 - calls.0;
    assert!((2 * 51..=4 * 51).contains(&made), "{made}");
}

#[tokio::test(start_paused = true)]
async fn the_state_that_a_later_process_may_use_is_recorded() {
    let world = World::resumed(vec![record("z", "169.255.0.99/24", "fd00::99/64")]);
    let kept = world.acquire("kept").await.unwrap();
    let given_back = world.acquire("gone").await.unwrap();
    assert_eq!(world.names().await, ["gone", "kept", "z"]);
    drop(given_back);
    sleep(19 * SECOND).await;
    assert_eq!(world.names().await, ["gone", "kept", "z"], "it is not given back yet");
    sleep(2 * SECOND).await;
    assert_eq!(world.names().await, ["kept", "z"]);
    let left = world.leases.flush(Instant::now() + SECOND).await.unwrap();
    assert_eq!(left[0], Record { child: "kept".into(), owner: None, addresses: kept.addresses() });
    assert_eq!((left.len(), world.leases.records().await), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_not_acquired_expires() {
    let world = World::resumed(vec![record("z", "169.255.0.99/24", "fd00::99/64")]);
    world.faults().stand(Fault::Fail(unavailable()));
    let deadline = Instant::now() + SECOND;
    assert!(world.leases.acquire_renewed("bridge", 60 * SECOND, deadline).await.is_err());
    sleep(7200 * SECOND).await;
    assert_eq!(world.names().await, ["z"], "the service was away");
    world.faults().clear();
    let deadline = Instant::now() + SECOND;
    let _bridge = world.leases.acquire_renewed("bridge", 60 * SECOND, deadline).await.unwrap();
    sleep(3700 * SECOND).await;
    assert_eq!(world.names().await, ["bridge"]);
}
