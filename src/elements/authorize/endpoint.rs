// SPDX-License-Identifier: Apache-2.0

//! Refuse callers whose path does not lead here.

use std::time::SystemTime;

use crate::{
    api::Connection,
    chain::{Close, Context, Element, Next, Order, Origin, Reason, Request, Result},
    transport::{Caller, token},
};

/// Element for the endpoint chain: verifies the path up to our own segment, of Requests and Closes alike.
///
/// A path that a policy refuses is [`Reason::Denied`] with the policy's name. Events and calls from inside this process, which came
/// over no wire, are not verified: whoever caused them was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint;

fn verify(connection: &Connection, context: &Context) -> Result<()> {
    let (Origin::Caller, Some(caller)) = (context.origin, context.extensions.get::<Caller>()) else {
        return Ok(());
    };
    let left = connection.segments().get(..=connection.index()).unwrap_or_default();
    let verified = token::verify_received(left, &caller.peer, SystemTime::now());
    Ok(verified.map_err(|denied| Reason::Denied(denied.to_string()))?)
}

impl Element for Endpoint {
    const NAME: &'static str = "authorize";
    const ORDER: Order = Order { after: &["update_path", "begin", "update_token"], before: &["metadata"] };

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        verify(&request.connection, &request.context)?;
        next.request(request).await
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        verify(&close.connection, &close.context)?;
        next.close(close).await
    }
}
