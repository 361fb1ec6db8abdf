// SPDX-License-Identifier: Apache-2.0

//! Make one call to the address service, for all families of a name at once.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    AllocateError, Allocator,
    state::{Answers, Call},
};
use crate::api::Family;

/// Most names for which calls are made at a time.
const AT_ONCE: usize = 256;

/// A call that has ended.
pub(super) struct Done {
    pub(super) child: Arc<str>,
    pub(super) outcome: Outcome,
}

/// How it ended.
pub(super) enum Outcome {
    Allocated(Answers),
    Renewed(Answers),
    Released(Result<(), AllocateError>),
}

/// What makes the calls.
pub(super) struct Caller<A> {
    allocator: Arc<A>,
    families: Arc<[Family]>,
    timeout: Duration,
    gate: Arc<Semaphore>,
}

impl<A: Allocator> Caller<A> {
    pub(super) fn new(allocator: A, mut families: Vec<Family>, timeout: Duration) -> Self {
        families.sort_unstable();
        families.dedup();
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        Self { allocator: Arc::new(allocator), families: families.into(), timeout, gate }
    }

    /// The call as a future that owns what it needs. Each family has the whole timeout; waiting for its turn does not count.
    pub(super) fn call(&self, child: Arc<str>, call: Call) -> impl Future<Output = Done> + Send + use<A> {
        let (allocator, families) = (Arc::clone(&self.allocator), Arc::clone(&self.families));
        let (gate, limit) = (Arc::clone(&self.gate), self.timeout);
        async move {
            let _turn = gate.acquire().await;
            let outcome = match call {
                Call::Allocate => Outcome::Allocated(allocate(&*allocator, &child, &families, limit).await),
                Call::Renew => Outcome::Renewed(allocate(&*allocator, &child, &families, limit).await),
                Call::Release => Outcome::Released(release(&*allocator, &child, &families, limit).await),
            };
            Done { child, outcome }
        }
    }
}

async fn allocate(allocator: &impl Allocator, child: &str, families: &[Family], limit: Duration) -> Answers {
    let calls = families
        .iter()
        .map(|&family| async move { (family, within(limit, allocator.allocate(child, family)).await) });
    join_all(calls).await.into_iter().collect()
}

async fn release(
    allocator: &impl Allocator,
    child: &str,
    families: &[Family],
    limit: Duration,
) -> Result<(), AllocateError> {
    let calls = families.iter().map(|&family| within(limit, allocator.release(child, family)));
    join_all(calls).await.into_iter().collect()
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, AllocateError>>,
) -> Result<T, AllocateError> {
    timeout(limit, call).await.unwrap_or(Err(AllocateError::Deadline))
}
