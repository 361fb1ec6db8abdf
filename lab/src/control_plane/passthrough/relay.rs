// SPDX-License-Identifier: Apache-2.0
//! Calls the next hop that an element above has chosen.
//!
//! One attempt to dial, as short as NSM's: a hop in the middle does not wait for an endpoint that
//! is gone. Descriptors that elements above left in the call are sent along, returned ones are kept
//! for `recv_fd`.
//!
//! # State
//! The wire of the last Request, for `monitor` to follow the next hop; and [`Answered`].

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::control_plane::registry::Registered;
use nsm::chain::causes;
use nsm::{
    api::{
        Connection,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    },
    chain::{Answered, CallContext, Close, Element, Next, Order, Reason, Request, Result},
    server::TraceContext,
    transport::{Address, Identity, SendFds, Wire, origin, trace_context::TRACEPARENT},
};

/// Timeout of dialling the next hop.
const DIAL: Duration = Duration::from_millis(750);

/// The next hop of the call; in the extensions of its context.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// Its address.
    pub target: Address,
    /// The descriptor behind the target, which must stay open as long as it is dialled.
    pub socket: Arc<OwnedFd>,
}

impl NextHop {
    /// The socket of an endpoint.
    pub fn of(registered: Registered) -> Self {
        Self { target: registered.target(), socket: registered.socket }
    }

    /// Sends this call there.
    pub fn choose(self, context: &mut CallContext) {
        context.extensions.insert(self);
    }
}

/// Element at the end of the chain of a hop in the middle.
#[derive(Clone, Debug)]
pub struct Relay {
    identity: Identity,
    lifetime: Duration,
}

impl Relay {
    /// Presents `identity`, and sends tokens with this `lifetime`.
    pub fn new(identity: Identity, lifetime: Duration) -> Self {
        Self { identity, lifetime }
    }

    async fn dial(&self, context: &CallContext) -> Result<Wire> {
        let hop = context.extensions.get::<NextHop>().cloned();
        let hop = hop.ok_or_else(|| Reason::Unavailable("nobody chose the next hop".into()))?;
        let svid = self.identity.current().ok_or_else(|| Reason::Unavailable("no identity".into()))?;
        let deadline = context.deadline.min(Instant::now() + DIAL);
        let dialled = Wire::dial(&hop.target, svid, deadline).await;
        let wire = dialled.map_err(|error| Reason::Unavailable(causes(&error)))?;
        if let Some(hub) = wire.hub() {
            hub.keep_received();
        }
        Ok(wire)
    }

    fn message<M>(&self, wire: &Wire, message: M, context: &mut CallContext) -> Result<tonic::Request<M>> {
        let mut message = wire.call(message, Some(context.deadline), self.lifetime)?;
        if let Some(fds) = context.extensions.remove::<SendFds>() {
            message.extensions_mut().insert(fds);
        }
        // A hop without spans of its own passes the caller's on.
        if let Some(TraceContext { traceparent, .. }) = context.extensions.get()
            && let Ok(traceparent) = traceparent.parse()
        {
            message.metadata_mut().insert(TRACEPARENT, traceparent);
        }
        Ok(message)
    }
}

impl Element for Relay {
    const NAME: &'static str = "relay";
    const ORDER: Order = Order::STATE.after(&["monitor", "recv_fd", "recv_fd_client", "find", "veth"]);

    async fn request(&self, request: Request, _end: Next) -> Result<Box<Connection>> {
        let Request { connection, preferences, mut context } = request;
        let wire = self.dial(&context).await?;
        let message =
            NetworkServiceRequest { connection: Some(*connection), mechanism_preferences: preferences };
        let message = self.message(&wire, message, &mut context)?;
        let answer = NetworkServiceClient::with_origin(wire.clone(), origin()).request(message).await?;
        let answer = Box::new(answer.into_inner());
        context.scope.insert(wire);
        context.scope.insert(Answered::with((*answer).clone()));
        Ok(answer)
    }

    async fn close(&self, close: Close, _end: Next) -> Result<Box<Connection>> {
        let Close { connection, mut context } = close;
        drop(context.scope.take::<Answered>());
        let wire = self.dial(&context).await?;
        let message = self.message(&wire, (*connection).clone(), &mut context)?;
        NetworkServiceClient::with_origin(wire, origin()).close(message).await?;
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use tower_layer::Layer;

    use super::*;
    use nsm::{
        chain::{Tail, laws},
        testing::{Below, Counted, Given},
    };

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let below = Below::default();
        let file = Counted::new();
        let peer = below.served().await;
        let hop = NextHop { target: peer.dialer.address.clone(), socket: Arc::new(file.descriptor()) };
        laws::check_layer(
            || {
                below.under(|| {
                    let file = file.clone();
                    let hop = hop.clone();
                    let relay = Relay::new(peer.dialer.identity.clone(), peer.dialer.token_lifetime);
                    Given(relay, move |_: &mut Connection, context: &mut CallContext| {
                        context.extensions.insert(hop.clone());
                        context.extensions.insert(SendFds(vec![Arc::new(file.descriptor())]));
                    })
                    .layer()
                    .layer(Tail)
                })
            },
            || below.open() + file.open(),
        )
        .await
        .unwrap();
    }
}
