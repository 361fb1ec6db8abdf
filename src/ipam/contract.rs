// SPDX-License-Identifier: Apache-2.0

//! The contract of every allocator, checked here on the one in memory, and on the gRPC client where
//! a server is available.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that lacks what it needs fails

use super::{AllocateError, Allocator, Subnet, Tree};
use crate::api::Family;

/// The subnet of the allocators under test.
pub fn subnet() -> Subnet {
    Subnet { trench: "trench-a".into(), conduit: "load-balancer".into(), node: "node-a".into() }
}

/// A tree that has this subnet.
pub fn tree() -> Tree {
    let tree = Tree::new("trench-a");
    tree.add_conduit("load-balancer").unwrap();
    tree
}

/// Checks an allocator on a new `tree()` at `subnet()`. `elsewhere` is another one of the same
/// tree, of an unknown trench.
pub async fn check(tree: &Tree, allocator: &impl Allocator, elsewhere: &impl Allocator) {
    let first = allocate(allocator, "bridge", Family::V4).await;
    assert_eq!(first, "169.255.0.1/24", "the lowest address, after the first, with the length of the node");
    assert_eq!(allocate(allocator, "bridge", Family::V6).await, "fd00::1/64");
    assert_eq!(allocate(allocator, "a-src", Family::V4).await, "169.255.0.2/24");
    assert_eq!(allocate(allocator, "bridge", Family::V4).await, first, "the same name has the same address");
    assert_eq!(tree.children().len(), 3);

    allocator.release("bridge", Family::V4).await.unwrap();
    allocator.release("bridge", Family::V4).await.expect("releasing again succeeds");
    allocator.release("nobody", Family::V6).await.expect("releasing the unknown succeeds");
    assert_eq!(tree.get(&subnet(), "bridge", Family::V4), None);
    assert!(tree.get(&subnet(), "bridge", Family::V6).is_some(), "the other family stays");
    assert_eq!(allocate(allocator, "b-src", Family::V4).await, first, "the lowest free one");

    for n in 0..252 {
        allocator.allocate(&format!("child-{n}"), Family::V4).await.unwrap();
    }
    let full = allocator.allocate("one-too-many", Family::V4).await.unwrap_err();
    assert!(
        matches!(&full, AllocateError::Exhausted(text) if text.contains("no more prefix available")),
        "{full}"
    );
    assert!(
        tree.children().iter().all(|(_, net)| net.to_string() != "169.255.0.255/32"),
        "the last one stays free"
    );

    let refused = elsewhere.allocate("a", Family::V4).await.unwrap_err();
    assert!(matches!(&refused, AllocateError::Refused(text) if text.contains("trench")), "{refused}");
    elsewhere.release("a", Family::V4).await.expect("releasing in an unknown trench succeeds");
}

async fn allocate(allocator: &impl Allocator, child: &str, family: Family) -> String {
    allocator.allocate(child, family).await.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn the_allocator_in_memory_keeps_the_contract() {
    let tree = tree();
    let elsewhere = Subnet { trench: "trench-b".into(), ..subnet() };
    let allocator = |subnet| super::InMemory::new(tree.clone(), subnet);
    check(&tree, &allocator(subnet()), &allocator(elsewhere)).await;
}
