// SPDX-License-Identifier: Apache-2.0

//! Repeats the Request of a client until it succeeds.

use std::{error::Error, time::Duration};

use crate::{api::Connection, chain::Result, task::Backoff, transport::DialError};

/// The attempts to establish one connection.
pub(crate) trait Attempts: Sync {
    /// The connection of the next Request, which begins with that of an earlier process.
    type Start: From<Option<Box<Connection>>> + Send;

    /// Finds the connection that an earlier process has left.
    fn find(&self) -> impl Future<Output = Result<Option<Box<Connection>>, DialError>> + Send;

    /// Makes one Request.
    fn attempt(&self, start: &mut Self::Start) -> impl Future<Output = Result<Box<Connection>>> + Send;

    /// Reports an error; the next attempt follows after a delay.
    fn failed(&self, error: &(dyn Error + 'static));
}

/// Looks for the connection of an earlier process until nsmgr can be reached, and repeats the
/// Request until it succeeds.
pub(crate) async fn connect<A: Attempts>(link: &A) {
    let mut start = A::Start::from(earlier(link).await);
    let mut pauses = of_requests();
    while let Err(error) = link.attempt(&mut start).await {
        link.failed(&error);
        pauses.wait().await;
    }
}

async fn earlier(link: &impl Attempts) -> Option<Box<Connection>> {
    let mut pauses = of_queries();
    loop {
        match link.find().await {
            Ok(left) => return left,
            Err(error) => link.failed(&error),
        }
        pauses.wait().await;
    }
}

/// Delays between Requests that fail: from 0.5 s, doubled up to 10 s.
fn of_requests() -> Backoff {
    Backoff::new(Duration::from_millis(500), Duration::from_secs(10))
}

/// Delays between queries of an nsmgr that cannot be reached: a query costs a dial on this machine.
fn of_queries() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(1))
}
