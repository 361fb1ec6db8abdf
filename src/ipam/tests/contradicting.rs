// SPDX-License-Identifier: Apache-2.0

//! Tests a service whose answers contradict each other.

use super::*;

impl World {
    async fn bridge(&self) -> Lease {
        let deadline = Instant::now() + SECOND;
        self.leases.acquire_renewed(BRIDGE, 300 * SECOND, deadline).await.unwrap()
    }

    /// The error of a lease while the service returns this IPv4 address.
    async fn refused(&self, child: &str, address: &str) -> String {
        self.faults().script([Fault::Garble(address.into(), 24)]);
        let error = self.acquire(child).await.unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_name_has_is_refused_and_released() {
    let world = World::new();
    let _bridge = world.bridge().await;
    let a = world.acquire("a").await.unwrap();
    assert_eq!(texts(&a)[0], "169.255.0.2/24");
    let error = world.refused("b", "169.255.0.2").await;
    assert!(error.contains("`169.255.0.2/24`: the address of `a`"), "{error}");
    sleep(SECOND).await;
    assert_eq!(world.children(), ["a", "bridge", "a", "bridge"], "released");
    assert_eq!(texts(&world.acquire("b").await.unwrap())[0], "169.255.0.3/24");
    assert_eq!(texts(&world.acquire("a").await.unwrap()), texts(&a));
}

#[tokio::test(start_paused = true)]
async fn an_address_outside_of_the_bridges_subnet_is_refused() {
    let world = World::new();
    let _bridge = world.bridge().await;
    let error = world.refused("a", "172.16.9.9").await;
    assert!(error.contains("`172.16.9.9/24`: not in 169.255.0.0/24, the subnet of the bridge"), "{error}");
    sleep(30 * SECOND).await;
    assert_eq!(world.children(), ["bridge", "bridge"], "released");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_name_keeps_its_address_against_a_new_one() {
    let world = World::new();
    let bridge = world.bridge().await;
    let a = world.acquire("a").await.unwrap();
    world.allocator.tree().release(&subnet(), "a", Family::V4);
    world.allocator.tree().release(&subnet(), "a", Family::V6);
    assert!(world.acquire("b").await.is_err(), "the service gives it the address of `a`");
    sleep(SECOND).await;
    let b = world.acquire("b").await.unwrap();
    assert_eq!((texts(&a)[0].as_str(), texts(&b)[0].as_str()), ("169.255.0.2/24", "169.255.0.3/24"));
    assert_eq!(world.acquire("a").await.unwrap().addresses(), a.addresses());
    drop(bridge);
}
