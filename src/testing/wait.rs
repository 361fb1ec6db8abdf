// SPDX-License-Identifier: Apache-2.0

//! Waits for a condition.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// A moment by which everything that a test waits for has happened: ten seconds from now.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Polls a value until `done` accepts it, and returns it.
///
/// # Panics
/// With the last value, after ten seconds.
pub async fn eventually<T: Debug>(value: impl Fn() -> T, done: impl Fn(&T) -> bool) -> T {
    for _ in 0..1000 {
        let value = value();
        if done(&value) {
            return value;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("still {:?} after 10 s", value());
}
