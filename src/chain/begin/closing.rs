// SPDX-License-Identifier: Apache-2.0

//! Retry schedule of a failed Close: exponential backoff until the path has expired.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

use crate::{api::Connection, task::Backoff};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);
/// Time limit for paths without an expiry.
const GIVE_UP: Duration = Duration::from_secs(600);
/// Upper bound of a path's expiry, so that a peer cannot cause endless retries of a Close.
const LONGEST_PATH: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Closing {
    pauses: Backoff,
    again: Instant,
    until: Instant,
}

impl Closing {
    /// Next state after another failure.
    pub(crate) fn after(before: Option<Closing>, connection: &Connection) -> Self {
        let now = Instant::now();
        let (mut pauses, until) = match before {
            Some(before) => (before.pauses, before.until),
            None => (Backoff::new(FIRST, LONGEST), now + lifetime(connection)),
        };
        let again = (now + pauses.delay()).min(until.max(now));
        Self { pauses, again, until }
    }

    /// State of a Close that is due now.
    pub(crate) fn due(connection: &Connection) -> Self {
        Self { again: Instant::now(), ..Self::after(None, connection) }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// How long the tokens of a connection's path live.
fn lifetime(connection: &Connection) -> Duration {
    let Some(expires) = connection.expires() else { return GIVE_UP };
    expires.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST_PATH)
}

/// Waits until the next retry; pending forever if nothing is closing.
pub(crate) async fn again(closing: Option<&Closing>) {
    match closing {
        Some(closing) => sleep_until(closing.again).await,
        None => std::future::pending().await,
    }
}
