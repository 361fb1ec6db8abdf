// SPDX-License-Identifier: Apache-2.0

//! Ends a chain by returning the connection of the call (NSM `tail`).

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    api::Connection,
    chain::{Call, End, Error, Result},
};

/// Innermost service of an endpoint's chain: the answer is the connection as the elements above
/// have made it.
///
/// ```
/// use nsm::{api::Connection, chain::{Chain, Request, Tail}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = Chain::new().end(Tail).build()?; // the end of a chain that sets none
/// assert_eq!(chain.request(Request::new(Connection::named("a"))).await?.id, "a");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail;

impl Tail {
    /// Name of the end.
    pub const NAME: &'static str = "tail";
}

impl End for Tail {
    fn name(&self) -> &'static str {
        Self::NAME
    }
}

impl Service<Call> for Tail {
    type Response = Box<Connection>;
    type Error = Error;
    type Future = Ready<Result<Box<Connection>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        ready(Ok(call.into_connection()))
    }
}
