// SPDX-License-Identifier: Apache-2.0

//! The changes that an author makes to a standard chain, and the defaults that every application
//! has.

use std::time::Duration;

use crate::chain::Chain;

/// Lifetime of tokens, as in NSM's endpoints and clients.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// Timeout of one attempt to connect to nsmgr.
pub(super) const DIAL: Duration = Duration::from_secs(5);
/// Payload of network services and connections: frames.
pub(crate) const PAYLOAD: &str = "ETHERNET";

/// The changes, in order.
#[derive(Default)]
pub(super) struct Changes(Vec<Box<dyn FnOnce(Chain) -> Chain + Send>>);

impl Changes {
    pub(super) fn push(&mut self, change: impl FnOnce(Chain) -> Chain + Send + 'static) {
        self.0.push(Box::new(change));
    }

    pub(super) fn apply(self, standard: Chain) -> Chain {
        self.0.into_iter().fold(standard, |chain, change| change(chain))
    }
}
