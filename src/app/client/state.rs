// SPDX-License-Identifier: Apache-2.0

//! The state of a link.

use std::sync::Arc;

use crate::api::Connection;

/// The state of a [`Link`](super::Link).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LinkState {
    /// Requests are being made, because there is no connection yet.
    Requesting {
        /// Why the last one failed.
        error: Option<String>,
    },
    /// The connection is established, as the last answer has it.
    Up(Arc<Connection>),
    /// The connection was found broken, and is being requested again.
    Healing {
        /// Why the last attempt failed.
        error: Option<String>,
    },
    /// The connection is being closed.
    Closing,
    /// The connection has been closed, or the one attempt to do so has failed and is repeated in
    /// the background.
    Closed,
}

impl LinkState {
    /// Whether the link is being closed, which is final.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Closing | Self::Closed)
    }
}
