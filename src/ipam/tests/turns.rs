// SPDX-License-Identifier: Apache-2.0

//! Tests a service whose store serves one call at a time, and always the last one that came first.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use ipnet::IpNet;
use tokio::sync::oneshot;

use super::*;

/// Time that the store takes for a call.
const STORE: Duration = Duration::from_millis(5);

#[derive(Clone)]
struct Unfair {
    inner: InMemory,
    waiting: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
    busy: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Unfair {
    fn new() -> Self {
        let inner = InMemory::new(tree(), subnet());
        Self { inner, waiting: Arc::default(), busy: Arc::default(), most: Arc::default() }
    }

    async fn served(&self) {
        let before = self.busy.fetch_add(1, SeqCst);
        self.most.fetch_max(before + 1, SeqCst);
        if before > 0 {
            let (turn, comes) = oneshot::channel();
            self.waiting.lock().unwrap().push(turn);
            comes.await.unwrap();
        }
        sleep(STORE).await;
        self.busy.fetch_sub(1, SeqCst);
        if let Some(last) = self.waiting.lock().unwrap().pop() {
            last.send(()).unwrap();
        }
    }
}

impl Allocator for Unfair {
    async fn allocate(&self, child: &str, family: Family) -> Result<IpNet, AllocateError> {
        self.served().await;
        self.inner.allocate(child, family).await
    }

    async fn release(&self, child: &str, family: Family) -> Result<(), AllocateError> {
        self.served().await;
        self.inner.release(child, family).await
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_few_at_a_time_and_in_order_of_arrival() {
    let store = Unfair::new();
    let tasks = Tasks::default();
    let leases = Leases::start(store.clone(), Settings::default(), &tasks);
    let deadline = Instant::now() + 15 * SECOND;
    let start = Instant::now();
    let joining = join_all((0..20).map(|n| {
        let leases = leases.clone();
        async move {
            let lease = leases.acquire(&format!("target-{n}"), deadline).await.unwrap();
            (lease, start.elapsed())
        }
    }));
    for (n, (_, waited)) in (1..).zip(joining.await) {
        assert!(waited <= 2 * STORE * (n + 1), "target {n} of 20: {waited:?}");
    }
    assert_eq!(store.most.load(SeqCst), 4, "two families of two names");
}

#[tokio::test(start_paused = true)]
async fn who_joins_does_not_wait_for_renewals_and_releases() {
    let store = Unfair::new();
    let tasks = Tasks::default();
    let leases = Leases::start(store.clone(), Settings::default(), &tasks);
    let deadline = Instant::now() + 15 * SECOND;
    let held = join_all((0..100).map(|n| {
        let leases = leases.clone();
        async move { leases.acquire(&format!("target-{n}"), deadline).await.unwrap() }
    }));
    drop(held.await);
    sleep(20 * SECOND).await; // a hundred releases are due: a second for this store
    let (lease, waited) = timed(leases.acquire("other", Instant::now() + 15 * SECOND)).await;
    assert!(lease.is_ok() && waited < 20 * STORE, "{waited:?}");
    assert!(leases.status().borrow().releasing > 50);
}
