// SPDX-License-Identifier: Apache-2.0
//! Waits for a condition, and fails with the last observation if it does not become true.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::LabError;

/// Time between two checks.
const PACE: Duration = Duration::from_millis(20);

/// Checks until `Ok`, at most `within`; returns how long it took.
///
/// # Errors
/// It did not become true; with the last observation.
pub async fn eventually(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<(), String>,
) -> Result<Duration, LabError> {
    let start = Instant::now();
    loop {
        let Err(seen) = look().await else { return Ok(start.elapsed()) };
        if start.elapsed() > within {
            let doing = format!("see within {within:?} that {what}");
            return Err(LabError { doing, source: seen.into() });
        }
        sleep(PACE).await;
    }
}
