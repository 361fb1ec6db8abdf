// SPDX-License-Identifier: Apache-2.0

//! Know when the next hop holds a connection, so that it is closed there even if the Request then fails on this side.

use std::sync::Arc;

use crate::{api::Connection, chain::Scope};

/// In the scope from a next hop's answer on until the Close: who calls a next hop inserts it and takes it.
///
/// A Request may fail after it: an element above refuses the answer, the deadline passes, the call panics. If it was the first of its
/// connection, nobody else would ever close the next hop. So `metadata` then keeps the values of the Request, and the lane closes
/// the connection with them.
#[derive(Clone, Debug)]
pub struct Answered(pub(crate) Arc<Connection>);

impl Answered {
    /// The next hop holds this connection.
    pub fn with(connection: Connection) -> Self {
        Self(Arc::new(connection))
    }

    /// What the next hop holds; none if it holds nothing.
    pub(crate) fn of(scope: &Scope) -> Option<Arc<Connection>> {
        scope.get::<Self>().map(|answered| Arc::clone(&answered.0))
    }
}
