// SPDX-License-Identifier: Apache-2.0

//! The delays between the attempts of a client.

use std::time::Duration;

use crate::task::Backoff;

/// Delays between Requests that fail: from 0.5 s, doubled up to 10 s.
pub(crate) fn of_requests() -> Backoff {
    Backoff::new(Duration::from_millis(500), Duration::from_secs(10))
}

/// Delays between queries of an nsmgr that cannot be reached: a query costs a dial on this machine.
pub(crate) fn of_queries() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(1))
}
