// SPDX-License-Identifier: Apache-2.0

//! Enforces the deadline of a call, and turns a panic of an element into an error of that call, so
//! that the lane survives.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use crate::{
    api::Connection,
    chain::{Reason, Result},
    task::panic_message,
};

/// Runs a call until its deadline, then drops its future.
pub(crate) async fn cut<F>(deadline: Instant, work: F) -> Result<Box<Connection>>
where
    F: Future<Output = Result<Box<Connection>>>,
{
    // unwind safe: all changes by the call are in its frame, and that is dropped
    let work = AssertUnwindSafe(work).catch_unwind();
    match timeout_at(deadline, work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => Err(Reason::Panicked(panic_message(&*panic).unwrap_or_default().to_owned()).into()),
        Err(_) => Err(Reason::Deadline.into()),
    }
}
