// SPDX-License-Identifier: Apache-2.0

//! Say how a registration stands.

use std::sync::Arc;

use tokio::time::Instant;

use super::Error;

/// How a registration stands.
#[derive(Clone, Debug, Default)]
pub enum State {
    /// Not registered yet, or no longer.
    #[default]
    Pending,
    /// The last attempt failed, and no registration is left; attempts go on.
    Failing(Arc<Error>),
    /// Registered.
    Registered {
        /// When the registration lapses unless it is refreshed.
        until: Instant,
        /// Why the last refresh failed, if it did; attempts go on.
        failure: Option<Arc<Error>>,
    },
    /// Refused for good; there are no more attempts.
    Refused(Arc<Error>),
}

impl State {
    /// Whether others find the endpoint now.
    pub fn is_registered(&self) -> bool {
        matches!(self, State::Registered { until, .. } if *until > Instant::now())
    }

    /// What went wrong last, if anything did since the last success.
    pub fn failure(&self) -> Option<&Arc<Error>> {
        match self {
            State::Pending => None,
            State::Failing(error) | State::Refused(error) => Some(error),
            State::Registered { failure, .. } => failure.as_ref(),
        }
    }

    /// The state after another failure.
    pub(super) fn after(&self, error: Error) -> Self {
        let error = Arc::new(error);
        match self {
            _ if error.is_final() => State::Refused(error),
            State::Registered { until, .. } if *until > Instant::now() => {
                State::Registered { until: *until, failure: Some(error) }
            }
            _ => State::Failing(error),
        }
    }
}
