// SPDX-License-Identifier: Apache-2.0

//! Adds the caller's token and our own to the path (NSM `updatetoken`).
//!
//! 1. The segment before ours gets the token that came with the call, and its expiry. Without one
//!    it stays unchanged: `authorize` decides.
//! 2. Our segment gets a new token for the caller, signed with the SVID that the caller verified,
//!    and its expiry.
//!
//! Applies only to calls that came over a wire.
//!
//! # Order
//! Above `authorize`, which verifies both, and with it above `begin`. Events of a connection enter
//! below.

use std::time::Duration;

use crate::{
    api::{Connection, PathSegment},
    chain::{CallContext, Close, Element, Next, Order, Reason, Request, Result},
    transport::{Caller, Token, token},
};

/// Element for the endpoint chain.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request},
///     elements::{update_path::UpdatePath, update_token::UpdateToken},
///     testing,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = Chain::new()
///     .with(UpdatePath::new("endpoint-1"))
///     .with(UpdateToken::new(Duration::from_secs(600)))
///     .build()?;
/// let mut request = Request::new(Connection::named("a"));
/// request.context.extensions.insert(testing::caller()); // a server inserts its caller
/// let answer = chain.request(request).await?;
/// let own = answer.own_segment().ok_or("no path")?;
/// assert!(!own.token.is_empty() && own.expires.is_some());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct UpdateToken {
    lifetime: Duration,
}

impl UpdateToken {
    /// Issues tokens with at most this lifetime.
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime }
    }

    /// Rules 1 and 2.
    fn stamp(&self, connection: &mut Connection, context: &CallContext) -> Result<()> {
        let Some(caller) = context.extensions.get::<Caller>() else {
            return Ok(());
        };
        let own = connection.index();
        let segments = &mut connection.path_mut().path_segments;
        let previous = own.checked_sub(1).and_then(|previous| segments.get_mut(previous));
        if let (Some(token), Some(previous)) = (&caller.token, previous) {
            write(previous, token);
        }
        if let Some(own) = segments.get_mut(own) {
            let token = token::issue(&caller.svid, &caller.peer, self.lifetime);
            write(own, &token.map_err(|unsigned| Reason::Other(unsigned.into()))?);
        }
        Ok(())
    }
}

fn write(segment: &mut PathSegment, token: &Token) {
    token.jwt().clone_into(&mut segment.token);
    segment.expires = Some(token.expires().into());
}

impl Element for UpdateToken {
    const NAME: &'static str = "update_token";
    const ORDER: Order = Order::ANY.after(&["update_path"]).before(&["authorize", "begin", "timeout"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        self.stamp(&mut request.connection, &request.context)?;
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        self.stamp(&mut close.connection, &close.context)?;
        next.close(close).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        chain::laws,
        testing::{self, Authority, Given},
        transport::Peer,
    };

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let authority = Authority::new("test.domain");
        let lifetime = Duration::from_secs(600);
        let peer = Arc::new(Peer::of(&authority.leaf("client").certificate).unwrap());
        let token = token::issue(&authority.svid("client"), &peer, lifetime).unwrap();
        let caller = Caller { hub: None, svid: authority.svid("endpoint"), peer, token: Some(token) };
        let given = move |connection: &mut Connection, context: &mut CallContext| {
            testing::path(connection, 1, &[None, None]);
            context.extensions.insert(caller.clone());
        };
        laws::check(|| Given(UpdateToken::new(lifetime), given.clone())).await.unwrap();
    }
}
