// SPDX-License-Identifier: Apache-2.0
//! Rows and ends of chains that break one thing on purpose.

use std::sync::Arc;

use nsm::{
    api::{
        Connection, Inode, parameter,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient as Client},
    },
    chain::{Call, Element, Error, Next, Request, Result},
    transport::{Dialer, Peer, SendFds, Wire, origin, token},
};
use tonic::{Status, metadata::MetadataMap};

/// Row of a client chain, above its end: sets the index to that of the next hop.
pub(crate) struct WrongIndex;

impl Element for WrongIndex {
    const NAME: &'static str = "wrong_index";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        request.connection.path_mut().index += 1;
        next.request(request).await
    }
}

/// Row of a client chain, below `send_fd`: removes the attached descriptor.
pub(crate) struct NoDescriptor;

impl Element for NoDescriptor {
    const NAME: &'static str = "no_descriptor";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        request.context.extensions.remove::<SendFds>();
        next.request(request).await
    }
}

/// Row of an endpoint chain in the place of `send_fd`: the answer names a namespace whose
/// descriptor is not sent.
pub(crate) struct NamedOnly(pub(crate) Inode);

impl Element for NamedOnly {
    const NAME: &'static str = "named_only";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let mut answer = next.request(request).await?;
        if let Some(mechanism) = &mut answer.mechanism {
            mechanism.parameters.insert(parameter::INODE_URL.into(), self.0.to_string());
        }
        Ok(answer)
    }
}

/// Row of an endpoint chain, above all others: removes the expiry of our segment, the last.
pub(crate) struct NoExpiry;

impl Element for NoExpiry {
    const NAME: &'static str = "no_expiry";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let mut answer = next.request(request).await?;
        if let Some(ours) = answer.path_mut().path_segments.last_mut() {
            ours.expires = None;
        }
        Ok(answer)
    }
}

/// End of a client chain, written by hand: its token is for the peer, or for another audience.
#[derive(Clone)]
pub(crate) struct ByHand {
    pub(crate) dialer: Dialer,
    pub(crate) audience: Option<Arc<Peer>>,
}

impl ByHand {
    /// Answers a call by calling the peer.
    pub(crate) async fn call(self, call: Call) -> Result<Box<Connection>, Error> {
        let mut context = call.context().clone();
        let deadline = call.context().deadline;
        let wire =
            self.dialer.dial(deadline).await.map_err(|error| Status::unavailable(error.to_string()))?;
        if let Some(hub) = wire.hub() {
            hub.keep_received();
        }
        let fds = context.extensions.remove::<SendFds>();
        let mut client = Client::with_origin(wire.clone(), origin());
        match call {
            Call::Request(request) => {
                let connection = Some(*request.connection);
                let message =
                    NetworkServiceRequest { connection, mechanism_preferences: request.preferences };
                let mut message = wire.call(message, Some(deadline), self.dialer.token_lifetime)?;
                fds.map(|fds| message.extensions_mut().insert(fds));
                self.readdress(&wire, message.metadata_mut())?;
                let answer = client.request(message).await?.into_inner();
                context.scope.insert(wire);
                Ok(Box::new(answer))
            }
            Call::Close(close) => {
                let connection = close.connection;
                let mut message =
                    wire.call((*connection).clone(), Some(deadline), self.dialer.token_lifetime)?;
                fds.map(|fds| message.extensions_mut().insert(fds));
                self.readdress(&wire, message.metadata_mut())?;
                client.close(message).await?;
                Ok(connection)
            }
        }
    }

    /// Replaces the token of a call by one for the audience.
    fn readdress(&self, wire: &Wire, metadata: &mut MetadataMap) -> Result<(), Status> {
        let Some(audience) = &self.audience else { return Ok(()) };
        let token = token::issue(wire.svid(), audience, self.dialer.token_lifetime);
        let token = token.map_err(|unsigned| Status::internal(unsigned.to_string()))?;
        let jwt = token.jwt().parse().map_err(|_| Status::internal("a token that is no header"))?;
        metadata.insert(token::TOKEN, jwt);
        Ok(())
    }
}
