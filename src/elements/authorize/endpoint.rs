// SPDX-License-Identifier: Apache-2.0

//! Refuses callers whose path does not lead here.

use std::time::SystemTime;

use crate::{
    api::Connection,
    chain::{CallContext, Close, Element, Error, Next, Order, Owner, Reason, Request, Result},
    transport::{Caller, token},
};

/// Element for the endpoint chain: verifies the path up to our own segment, of Requests and Closes
/// alike, and makes the client that signed segment 0 the [`Owner`] of the call.
///
/// A path that a policy refuses is [`Reason::Denied`] with the policy's name. Calls from inside
/// this process, which did not come over a wire, are not verified.
///
/// # Order
/// Above `begin`: no call reaches the lane of a connection before its caller is authorized. Events
/// of a connection enter below.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     chain::Chain,
///     elements::{authorize, update_path::UpdatePath, update_token::UpdateToken},
/// };
///
/// let chain = Chain::new()
///     .with(UpdatePath::new("endpoint-1"))
///     .with(UpdateToken::new(Duration::from_secs(600)))
///     .with(authorize::Endpoint);
/// assert_eq!(chain.to_string(), "update_path → update_token → authorize");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint;

fn verify(connection: &Connection, context: &mut CallContext) -> Result<()> {
    let Some(caller) = context.extensions.get::<Caller>() else {
        return Ok(());
    };
    let left = connection.segments().get(..=connection.index()).unwrap_or_default();
    let client = token::verify_received(left, &caller.peer, SystemTime::now());
    let client =
        client.map_err(|denied| Error::from(Reason::Denied(denied.to_string())).of(&connection.id))?;
    context.extensions.insert(Owner::new(client));
    Ok(())
}

impl Element for Endpoint {
    const NAME: &'static str = "authorize";
    const ORDER: Order = Order::ANY.after(&["update_path", "update_token"]).before(&["begin", "metadata"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        verify(&request.connection, &mut request.context)?;
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        verify(&close.connection, &mut close.context)?;
        next.close(close).await
    }
}
