// SPDX-License-Identifier: Apache-2.0

//! Tests leases over the allocator in memory, with paused time.

use std::{future::Future, time::Duration};

use futures::future::{FutureExt, join_all};
use tokio::time::{Instant, advance, sleep};

use super::{contract::*, *};
use crate::{api::Family, task::Tasks};

mod bounds;
mod contradicting;
mod failing;
mod flushing;
mod holding;
mod model;
mod owners;
mod renewing;
mod restoring;
mod spans;
mod turns;

const SECOND: Duration = Duration::from_secs(1);

/// Leases with their allocator.
struct World {
    leases: Leases,
    allocator: InMemory,
    tasks: Tasks,
}

impl World {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let allocator = InMemory::new(tree(), subnet());
        let tasks = Tasks::default();
        let leases = Leases::start(allocator.clone(), settings, &tasks);
        Self { leases, allocator, tasks }
    }

    async fn acquire(&self, child: &str) -> Result<Lease, LeaseError> {
        self.leases.acquire(child, Instant::now() + 15 * SECOND).await
    }

    fn faults(&self) -> &Faults {
        self.allocator.faults()
    }

    fn calls(&self) -> (u64, u64) {
        let calls = self.faults().calls();
        (calls.allocate, calls.release)
    }

    /// Names in the tree, once per family.
    fn children(&self) -> Vec<String> {
        self.allocator.tree().children().into_iter().map(|(name, _)| name).collect()
    }

    fn status(&self) -> Status {
        self.leases.status().borrow().clone()
    }
}

fn texts(lease: &Lease) -> Vec<String> {
    lease.addresses().iter().map(|(_, net)| net.to_string()).collect()
}

fn unavailable() -> AllocateError {
    AllocateError::Unavailable("injected".into())
}

/// The time a future takes.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}
