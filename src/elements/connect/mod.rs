// SPDX-License-Identifier: Apache-2.0

//! Calls the next hop (NSM `dial` and `connect`).
//!
//! Every Request and every Close dials again, because the tokens are signed with the key of the
//! connection that carries them, and certificates rotate. A call carries its deadline, a token, and
//! the descriptors that elements above left in its extensions ([`SendFds`]).
//!
//! This is a hand-written service with a named future, not an [`Element`](crate::chain::Element),
//! because it has no next service.
//!
//! # Order
//! The end of a chain.
//!
//! # State
//! The [`Wire`] of the last Request that succeeded; a new one replaces the old one, which is then
//! dropped. Elements above find it in the scope: `heal` and `monitor` watch over it, `authorize`
//! reads the peer's identity from it. Beside it [`Answered`], until the Close: if the first answer
//! of a peer is refused, here or by an element above, the lane closes the connection at the peer.
//!
//! # Errors
//! A peer that cannot be reached, and a connection that breaks, is [`Reason::Unavailable`]; an
//! error of the peer is [`Reason::Status`] with its own code. An answer out of bounds is
//! [`Reason::Exhausted`], one about another connection [`Reason::Refused`].

use std::{
    error::Error as _,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tower_service::Service;

use crate::{
    api::{
        Connection, PathSegment,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    },
    chain::{
        Answered, Call, Close, End, Error, Reason, Request, Result, bounds, causes, element::ResponseFuture,
    },
    transport::{Dialer, SendFds, Wire, origin},
};

/// The peer's deadline is this much before our own, so that it can report the cause of a delay.
const MARGIN: Duration = Duration::from_millis(250);

/// Innermost service of a client chain: calls the peer that its [`Dialer`] reaches.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     chain::Chain,
///     elements::{connect::Connect, mtu::Mtu},
///     testing::Authority,
///     transport::Dialer,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nsmgr = Dialer {
///     address: "unix:///var/lib/networkservicemesh/nsm.io.sock".parse()?,
///     identity: Authority::new("example.org").identity("client-1"), // `Identity::follow` in a cluster
///     dial_timeout: Duration::from_secs(5),
///     token_lifetime: Duration::from_secs(600),
/// };
/// let chain = Chain::new().with(Mtu(1500)).end(Connect::new(nsmgr));
/// assert_eq!(chain.to_string(), "mtu → connect");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Connect {
    dialer: Dialer,
    keeps: bool,
}

impl Connect {
    /// Name of the end.
    pub const NAME: &'static str = "connect";

    /// Calls the peer of a dialer. Descriptors that come with answers are refused.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, keeps: false }
    }

    /// Keeps descriptors that come with answers, as many as a hub keeps, for `recv_fd` above.
    pub fn keep_descriptors(self) -> Self {
        Self { keeps: true, ..self }
    }

    async fn dial(&self, deadline: Instant) -> Result<Wire> {
        let dialled = self.dialer.dial(deadline).await;
        let wire = dialled.map_err(|error| Reason::Unavailable(causes(&error)))?;
        if let (true, Some(hub)) = (self.keeps, wire.hub()) {
            hub.keep_received();
        }
        Ok(wire)
    }

    /// A message for the peer, with its token, deadline and descriptors.
    fn message<M>(
        &self,
        wire: &Wire,
        message: M,
        deadline: Instant,
        fds: Option<SendFds>,
    ) -> Result<tonic::Request<M>> {
        let mut message = wire.call(message, Some(deadline), self.dialer.token_lifetime)?;
        if let Some(fds) = fds {
            message.extensions_mut().insert(fds);
        }
        Ok(message)
    }

    async fn request(self, request: Request) -> Result<Box<Connection>> {
        let Request { connection, preferences, mut context } = request;
        let deadline = earlier(context.deadline);
        let wire = self.dial(deadline).await?;
        let asked = Requested((*connection).clone());
        let body =
            NetworkServiceRequest { connection: Some(*connection), mechanism_preferences: preferences };
        let message = self.message(&wire, body, deadline, context.extensions.remove())?;
        let mut client = NetworkServiceClient::with_origin(wire.clone(), origin());
        let answer = client.request(message).await.map_err(failed)?.into_inner();
        if let Err(refused) = asked.accepts(&answer) {
            context.scope.insert(Answered::with(asked.held(&answer)));
            return Err(refused);
        }
        context.scope.insert(wire);
        context.scope.insert(Answered::with(answer.clone()));
        Ok(Box::new(answer))
    }

    async fn close(self, close: Close) -> Result<Box<Connection>> {
        let Close { connection, mut context } = close;
        drop(context.scope.take::<Answered>());
        let deadline = earlier(context.deadline);
        let wire = self.dial(deadline).await?;
        let message = self.message(&wire, (*connection).clone(), deadline, context.extensions.remove())?;
        NetworkServiceClient::with_origin(wire, origin()).close(message).await.map_err(failed)?;
        Ok(connection)
    }
}

/// The connection as requested from the peer.
struct Requested(Connection);

impl Requested {
    /// The answer is within bounds, and the segment at our index still is ours.
    fn accepts(&self, answer: &Connection) -> Result<()> {
        bounds::check(answer, &[])?;
        let Self(asked) = self;
        match answer.segments().get(asked.index()) {
            Some(own) if own.id == asked.id => Ok(()),
            None if asked.segments().is_empty() => Ok(()), // a chain without `update_path` has no path
            own => {
                let id: String = own.map_or("", |own| &own.id).chars().take(128).collect();
                let text = format!("the answer is about connection `{id}`, asked was `{}`", asked.id);
                Err(Reason::Refused(text).into())
            }
        }
    }

    /// The connection that the peer holds although its answer is not accepted: the requested one,
    /// under the id that the peer has added.
    fn held(self, answer: &Connection) -> Connection {
        let Self(mut held) = self;
        let next = held.index() + 1;
        let added = answer.segments().get(next);
        let added = added.filter(|segment| segment.id.len().max(segment.name.len()) <= bounds::NAME);
        if let (Some(path), Some(added)) = (&mut held.path, added) {
            let name = added.name.clone();
            let id = added.id.clone();
            path.path_segments.truncate(next);
            path.path_segments.push(PathSegment { name, id, ..PathSegment::default() });
        }
        held
    }
}

fn earlier(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    deadline.checked_sub(MARGIN.min(left / 20)).unwrap_or(deadline)
}

/// An error of this side has a source; a peer's answer has none.
fn failed(status: Status) -> Error {
    match status.source() {
        Some(_) => Reason::Unavailable(causes(&status)).into(),
        None => status.into(),
    }
}

impl Service<Call> for Connect {
    type Response = Box<Connection>;
    type Error = Error;
    type Future = ConnectFuture;

    /// Always ready: each call dials for itself.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> ConnectFuture {
        let deadline = sleep_until(call.context().deadline);
        let connect = self.clone();
        let work: ResponseFuture = match call {
            Call::Request(request) => Box::pin(connect.request(request)),
            Call::Close(close) => Box::pin(connect.close(close)),
        };
        ConnectFuture { work, deadline }
    }
}

impl End for Connect {
    fn name(&self) -> &'static str {
        Self::NAME
    }
}

/// Future of a call: the peer's answer, or [`Reason::Deadline`] if the peer does not keep the
/// deadline.
#[pin_project]
pub struct ConnectFuture {
    #[pin]
    work: ResponseFuture,
    #[pin]
    deadline: Sleep,
}

impl Future for ConnectFuture {
    type Output = Result<Box<Connection>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.work.poll(cx) {
            return Poll::Ready(answer);
        }
        ready!(this.deadline.poll(cx));
        Poll::Ready(Err(Reason::Deadline.into()))
    }
}

#[cfg(test)]
mod tests;
