// SPDX-License-Identifier: Apache-2.0

//! Makes one call to the address service, for all families of a name at once.
//!
//! The store of Meridio's IPAM serves one call at a time, in no particular order: many concurrent
//! calls delay each other. So few are in flight, in the order of arrival. Calls that a caller waits
//! for do not queue behind others. A late call gives its turn to the next: a service that is slow,
//! not busy, receives many calls at once.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    AllocateError, Allocator,
    state::{Answers, Call},
};
use crate::api::Family;

/// Maximum number of names with calls in flight.
const IN_FLIGHT: usize = 256;
/// Maximum number of them that are not late, and how many of those may be Renews and Releases, for
/// which no caller waits.
const TURNS: usize = 2;
const OTHERS: usize = 1;
/// A call that takes longer is late.
const LATE: Duration = Duration::from_millis(50);

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

/// Makes the calls.
pub(super) struct Caller<A> {
    allocator: Arc<A>,
    families: Arc<[Family]>,
    timeout: Duration,
    in_flight: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl<A: Allocator> Caller<A> {
    pub(super) fn new(allocator: A, mut families: Vec<Family>, timeout: Duration) -> Self {
        families.sort_unstable();
        families.dedup();
        let [in_flight, turns, others] =
            [IN_FLIGHT, TURNS, OTHERS].map(|most| Arc::new(Semaphore::new(most)));
        let allocator = Arc::new(allocator);
        let families = families.into();
        Self { allocator, families, timeout, in_flight, turns, others }
    }

    /// The call as an owning future. Each family has the whole timeout; waiting for its turn does
    /// not count.
    pub(super) fn call(&self, child: Arc<str>, call: Call) -> impl Future<Output = Done> + Send + use<A> {
        let allocator = Arc::clone(&self.allocator);
        let families = Arc::clone(&self.families);
        let in_flight = Arc::clone(&self.in_flight);
        let turns = Arc::clone(&self.turns);
        let limit = self.timeout;
        let others = (call != Call::Allocate).then(|| Arc::clone(&self.others));
        async move {
            let _place = in_flight.acquire().await;
            let other = match &others {
                Some(others) => Some(others.acquire().await),
                None => None,
            };
            let turn = turns.acquire().await;
            let name = Arc::clone(&child);
            let mut called = pin!(async {
                match call {
                    Call::Allocate => {
                        Outcome::Allocated(allocate(&*allocator, &name, &families, limit).await)
                    }
                    Call::Renew => Outcome::Renewed(allocate(&*allocator, &name, &families, limit).await),
                    Call::Release => Outcome::Released(release(&*allocator, &name, &families, limit).await),
                }
            });
            let outcome = match timeout(LATE, &mut called).await {
                Ok(outcome) => outcome,
                Err(_late) => {
                    drop((turn, other));
                    called.await
                }
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
