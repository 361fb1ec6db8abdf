// SPDX-License-Identifier: Apache-2.0

//! Make an address service in memory late, refuse, lose or garble answers, or hang, on command.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::AllocateError;

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is done, later.
    Delay(Duration),
    /// It is not done; the caller gets the error.
    Fail(AllocateError),
    /// It is done, but the caller gets the error.
    Lose(AllocateError),
    /// It is done; the answer of an Allocate is this address and prefix length.
    Garble(String, i32),
    /// It is not done, and the caller gets no answer.
    Hang,
}

/// The faults of the calls to come. Clones share them.
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
    /// Allocate, and with it renew.
    pub allocate: u64,
    /// Release.
    pub release: u64,
}

impl Faults {
    /// The fault of every call from now on for which there is no script.
    pub fn stand(&self, fault: Fault) {
        self.plan().standing = Some(fault);
    }

    /// The faults of the next calls, one each, after those already in the script.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().script.extend(faults);
    }

    /// No fault from now on.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.script.clear();
        plan.standing = None;
    }

    /// Numbers of calls so far.
    pub fn calls(&self) -> Calls {
        self.plan().calls
    }

    /// Make a call with the fault that is due. The garbled answer, if that is the fault, comes in place of the effect's.
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
