// SPDX-License-Identifier: Apache-2.0
//! Wait for something to become true, and say what was seen last if it does not.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::LabError;

/// Time between two looks.
const PACE: Duration = Duration::from_millis(20);

/// Look until `Ok`, at most `within`; how long it took.
///
/// # Errors
/// It did not become true; with what was seen last.
pub(super) async fn eventually(
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
