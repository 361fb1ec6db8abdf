// SPDX-License-Identifier: Apache-2.0

//! Tracks when the next hop holds a connection, so that it is closed there even if the Request then
//! fails on this side.

use std::sync::Arc;

use crate::{api::Connection, chain::Scope};

/// In the scope from a next hop's answer on until the Close. An element that calls a next hop
/// inserts and removes it.
///
/// A Request may fail after the answer: an element above refuses it, the deadline passes, the call
/// panics. If it was the first of its connection, the next hop would never be closed. So `metadata`
/// then keeps the values of the Request, and the lane closes the connection with them.
#[derive(Clone, Debug)]
pub struct Answered(pub(crate) Arc<Connection>);

impl Answered {
    /// The next hop holds this connection.
    pub fn with(connection: Connection) -> Self {
        Self(Arc::new(connection))
    }

    /// The connection that the next hop holds, if any.
    pub(crate) fn of(scope: &Scope) -> Option<Arc<Connection>> {
        scope.get::<Self>().map(|answered| Arc::clone(&answered.0))
    }
}
