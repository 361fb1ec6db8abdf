// SPDX-License-Identifier: Apache-2.0

//! The service below the checked row.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::time::sleep;

use super::rig::ANSWER;
use crate::{
    api::Connection,
    chain::{Call, Error, Reason, Result, element::CallService},
};

/// The service below: it puts a value into the scope of each Request, and returns the connection of
/// the call, or fails.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) fails: AtomicBool,
    pub(super) requests: AtomicUsize,
    pub(super) closes: AtomicUsize,
    kept: Mutex<BTreeSet<usize>>,
}

/// The value of the inner service, with its number.
struct Kept(Arc<Inner>, usize);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kept().remove(&self.1);
    }
}

impl Inner {
    /// Numbers of its values that are alive.
    pub(super) fn numbers(&self) -> BTreeSet<usize> {
        self.kept().clone()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, call: Call) -> Result<Box<Connection>> {
        match &call {
            Call::Request(request) => {
                let number = self.requests.fetch_add(1, SeqCst);
                self.kept().insert(number);
                request.context.scope.insert(Kept(Arc::clone(&self), number));
            }
            Call::Close(_) => _ = self.closes.fetch_add(1, SeqCst),
        }
        sleep(ANSWER).await;
        if self.fails.load(SeqCst) {
            return Err(Reason::Refused("the law wants a failure".into()).into());
        }
        Ok(call.into_connection())
    }

    pub(super) fn service(self: &Arc<Self>) -> impl CallService<Error = Error> + use<> {
        let inner = Arc::clone(self);
        tower::service_fn(move |call| Arc::clone(&inner).answer(call))
    }
}
