// SPDX-License-Identifier: Apache-2.0

//! The state of our identity, with the reason why an SVID is missing, for logs and health.

use std::{sync::Arc, time::SystemTime};

use spiffe::WorkloadApiError;

use super::{RefusedSvid, Svid};
use crate::chain::causes;

/// The state of our identity at one moment.
#[derive(Clone, Debug, Default)]
pub struct IdentityState {
    /// The newest SVID that was accepted, until it expires.
    pub svid: Option<Arc<Svid>>,
    /// Why the next SVID is missing, if it is.
    pub error: Option<SvidError>,
}

/// The reason why there is no SVID, or no newer one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SvidError {
    /// The socket is missing or refuses, or the stream ended. The agent does not run.
    #[error("the Workload API cannot be reached: {0}")]
    Unreachable(String),
    /// The agent took the call and did not answer for five seconds.
    #[error("the Workload API is silent")]
    Silent,
    /// The agent refuses: there is no entry for this workload, or not yet.
    #[error("the Workload API refuses: {0}")]
    Refused(String),
    /// The agent returned an SVID that cannot be used.
    #[error("the Workload API gave an SVID that cannot be used: {0}")]
    Unusable(String),
    /// The SVID has expired and the agent returned no new one.
    #[error("the SVID has expired and the Workload API gave no new one")]
    Expired,
}

/// There was no valid SVID until the deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoIdentity {
    /// The Workload API returned none.
    #[error("no identity yet")]
    Waiting(#[source] SvidError),
    /// The deadline came before an answer of the Workload API.
    #[error("no identity yet: the Workload API has not been heard")]
    Unanswered,
    /// The task that asks has been stopped: this process is shutting down.
    #[error("the Workload API is no longer asked")]
    Stopped,
}

impl IdentityState {
    /// The SVID, if it is valid at this moment.
    pub fn valid(&self) -> Option<Arc<Svid>> {
        self.svid.clone().filter(|svid| svid.left(SystemTime::now()).is_some())
    }
}

impl From<WorkloadApiError> for SvidError {
    fn from(error: WorkloadApiError) -> Self {
        use WorkloadApiError::*;
        match &error {
            NoIdentityIssued | PermissionDenied(_) => Self::Refused(error.to_string()),
            X509Svid(_)
            | X509Bundle(_)
            | SpiffeId(_)
            | MissingRequiredField { .. }
            | InvalidResponseField { .. } => Self::Unusable(error.to_string()),
            _ => Self::Unreachable(causes(&error)),
        }
    }
}

impl From<RefusedSvid> for SvidError {
    fn from(why: RefusedSvid) -> Self {
        Self::Unusable(causes(&why))
    }
}
