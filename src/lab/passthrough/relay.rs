// SPDX-License-Identifier: Apache-2.0
//! Call the next hop over a connection of its own, with the descriptors that the call names.
//!
//! # State
//! The connection to the next hop, for those who watch it or claim a descriptor that came back.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use super::recv_fd::{Descriptors, named};
use crate::{
    api::{
        Connection, Mechanism,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    },
    chain::{Close, Context, Element, Error, Next, Order, Reason, Request, Result},
    transport::{Identity, SendFds, Target, Wire, origin},
};

/// Where the call goes next; in the extensions of its context.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// Where to dial.
    pub target: Target,
    /// The descriptor behind the target, which must stay open as long as it is dialled.
    pub socket: Arc<OwnedFd>,
}

/// The connection to the next hop that the last Request used.
#[derive(Clone, Debug)]
pub struct Hop(pub Wire);

/// Element at the end of the chain of a hop in the middle.
#[derive(Clone, Debug)]
pub struct Relay {
    identity: Identity,
    lifetime: Duration,
}

impl Relay {
    /// Show `identity`, and send tokens that live for `lifetime`.
    pub fn new(identity: Identity, lifetime: Duration) -> Self {
        Self { identity, lifetime }
    }

    async fn dial(&self, context: &Context) -> Result<Wire> {
        let hop = context.extensions.get::<NextHop>().cloned();
        let hop = hop.ok_or_else(|| Reason::Unavailable("nobody chose the next hop".into()))?;
        let svid = self.identity.current().ok_or_else(|| Reason::Unavailable("no identity".into()))?;
        let dialled = Wire::dial(&hop.target, svid, context.deadline).await;
        Ok(dialled.map_err(|error| Error::from(tower::BoxError::from(error)))?)
    }

    /// A call with the descriptors that it names.
    fn call<M>(
        &self,
        wire: &Wire,
        message: M,
        mechanisms: (&Connection, &[Mechanism]),
        context: &Context,
    ) -> Result<tonic::Request<M>> {
        let known = context.scope.get::<Descriptors>().unwrap_or_default();
        let fds =
            named(mechanisms.0, mechanisms.1).into_iter().filter_map(|inode| known.get(inode)).collect();
        let mut call = wire.call(message, Some(context.deadline), self.lifetime)?;
        call.extensions_mut().insert(SendFds(fds));
        Ok(call)
    }
}

impl Element for Relay {
    const NAME: &'static str = "relay";
    const ORDER: Order = Order { after: &["metadata", "recv_fd", "find", "veth", "follow"], before: &[] };

    async fn request(&self, request: Request, _end: Next) -> Result<Box<Connection>> {
        let Request { connection, preferences, context } = request;
        let wire = self.dial(&context).await?;
        let message = NetworkServiceRequest {
            connection: Some(*connection.clone()),
            mechanism_preferences: preferences.clone(),
        };
        let call = self.call(&wire, message, (&connection, &preferences), &context)?;
        let answer = NetworkServiceClient::with_origin(wire.clone(), origin()).request(call).await?;
        context.scope.insert(Hop(wire));
        Ok(Box::new(answer.into_inner()))
    }

    async fn close(&self, close: Close, _end: Next) -> Result<Box<Connection>> {
        let Close { connection, context } = close;
        let wire = self.dial(&context).await?;
        let call = self.call(&wire, *connection.clone(), (&connection, &[]), &context)?;
        NetworkServiceClient::with_origin(wire, origin()).close(call).await?;
        drop(context.scope.take::<Hop>());
        Ok(connection)
    }
}
