// SPDX-License-Identifier: Apache-2.0

//! Faults of an address service in memory: late, refused, lost or garbled answers, or none.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::AllocateError;

/// The fault of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None.
    None,
    /// The call takes effect, later.
    Delay(Duration),
    /// The call has no effect; the caller gets the error.
    Fail(AllocateError),
    /// The call takes effect, but the caller gets the error.
    Lose(AllocateError),
    /// The call takes effect; the answer of an Allocate is this address and prefix length.
    Garble(String, i32),
    /// The call has no effect, and the caller gets no answer.
    Hang,
}

/// The faults of later calls. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    script: VecDeque<Fault>,
    standing: Option<Fault>,
    calls: Calls,
}

/// Numbers of calls so far, one per family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Allocate, including renewals.
    pub allocate: u64,
    /// Release.
    pub release: u64,
}

impl Faults {
    /// Sets the fault of every later call that is not in the script.
    pub fn stand(&self, fault: Fault) {
        self.plan().standing = Some(fault);
    }

    /// Appends the faults of the next calls to the script, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().script.extend(faults);
    }

    /// Removes all faults.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.script.clear();
        plan.standing = None;
    }

    /// Numbers of calls so far.
    pub fn calls(&self) -> Calls {
        self.plan().calls
    }

    /// Makes a call with its fault. With a garbled answer, that replaces the result of the call.
    pub async fn around<T>(
        &self,
        count: impl FnOnce(&mut Calls),
        effect: impl Future<Output = Result<T, AllocateError>>,
        garble: impl FnOnce(&str, i32) -> Option<Result<T, AllocateError>>,
    ) -> Result<T, AllocateError> {
        match self.next(count) {
            Fault::None => effect.await,
            Fault::Delay(time) => {
                sleep(time).await;
                effect.await
            }
            Fault::Fail(error) => Err(error),
            Fault::Lose(error) => effect.await.and(Err(error)),
            Fault::Garble(address, length) => {
                let answer = effect.await;
                garble(&address, length).unwrap_or(answer)
            }
            Fault::Hang => pending().await,
        }
    }

    fn next(&self, count: impl FnOnce(&mut Calls)) -> Fault {
        let mut plan = self.plan();
        count(&mut plan.calls);
        plan.script.pop_front().or_else(|| plan.standing.clone()).unwrap_or(Fault::None)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
