// SPDX-License-Identifier: Apache-2.0

//! The state of a registration.

use std::sync::Arc;

use tokio::time::Instant;

use super::Error;

/// The state of a registration.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum State {
    /// Not registered yet, or no longer.
    #[default]
    Pending,
    /// The last attempt failed, and no registration is left; attempts continue.
    Failing(Arc<Error>),
    /// Registered.
    Registered {
        /// When the registration lapses unless it is refreshed.
        until: Instant,
        /// Why the last refresh failed, if it did; attempts continue.
        failure: Option<Arc<Error>>,
    },
    /// Refused permanently; there are no more attempts.
    Refused(Arc<Error>),
}

impl State {
    /// Whether peers can find the endpoint now.
    pub fn is_registered(&self) -> bool {
        matches!(self, State::Registered { until, .. } if *until > Instant::now())
    }

    /// The last error since the last success, if any.
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
