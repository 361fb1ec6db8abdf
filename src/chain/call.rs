// SPDX-License-Identifier: Apache-2.0

//! The Request and Close types that flow through a chain.
//!
//! A call carries everything that an element needs; there are no globals. Above
//! [`begin`](crate::chain::begin) a call has no lane yet: its scope is empty and its event handle
//! returns [`Reason::Ended`](crate::chain::Reason::Ended).

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    api::{Connection, Mechanism},
    chain::{begin::event::Events, scope::Scope},
};

/// Deadline of calls that arrive without one.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// A Request or a Close: the request type of every service in a chain.
///
/// ```
/// use nsm::{api::Connection, chain::{Call, Chain, Error, Request}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The end of a chain, as a tower service: returns the connection with another payload.
/// let end = tower::service_fn(|call: Call| async move {
///     let mut connection = call.into_connection();
///     connection.payload = "IP".into();
///     Ok::<_, Error>(connection)
/// });
/// let chain = Chain::new().end(end).build()?;
/// let answer = chain.request(Request::new(Connection::named("a"))).await?;
/// assert_eq!(answer.payload, "IP");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub enum Call {
    /// Establishes, refreshes or updates a connection.
    Request(Request),
    /// Closes a connection.
    Close(Close),
}

/// A call that establishes, refreshes or updates a connection.
///
/// ```
/// use nsm::{
///     api::{Connection, Mechanism, MechanismKind},
///     chain::Request,
/// };
///
/// let preferences = vec![Mechanism::local(MechanismKind::Kernel)];
/// let request = Request { preferences, ..Request::new(Connection::named("connection-1")) };
/// assert!(request.context.extensions.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    /// The requested connection.
    pub connection: Box<Connection>,
    /// Mechanisms supported by the caller, in order of preference.
    pub preferences: Vec<Mechanism>,
    /// Deadline, origin and per-connection state.
    pub context: CallContext,
}

/// A call that closes a connection.
///
/// ```
/// use nsm::{api::Connection, chain::{Chain, Close, Origin, Request, begin::BeginLayer}, task::Tasks};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let chain = Chain::new().with(BeginLayer::client(tasks.clone())).build()?;
/// let mut established = chain.request(Request::new(Connection::named("a"))).await?;
/// established.payload = "ignored".into();
/// let close = Close::new(established);
/// assert_eq!(close.context.origin, Origin::Caller);
/// let closed = chain.close(close).await?;
/// assert_eq!(closed.payload, "", "the connection as it was established");
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Close {
    /// Below `begin` this is the last established connection, regardless of the connection that the
    /// caller sent.
    pub connection: Box<Connection>,
    /// Deadline, origin and per-connection state.
    pub context: CallContext,
}

/// Deadline, origin and per-connection state of a call.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// `begin` cancels the call at this time.
    pub deadline: Instant,
    /// Whether a caller or an event started the call.
    pub origin: Origin,
    /// Per-connection state, keyed by private type.
    pub scope: Scope,
    /// Handle with which elements start calls of their own connection.
    pub events: Events,
    /// Types of the transport: peer identity, file descriptors, trace context.
    pub extensions: http::Extensions,
}

/// The starter of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A caller of the chain.
    Caller,
    /// An event fired by an element or by `begin`.
    Event(EventKind),
}

/// The kind of an event. At most one of each kind is queued per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A token in the path is about to expire.
    Refresh,
    /// The caller did not refresh in time.
    Timeout,
    /// The connection is broken.
    Heal,
    /// The Close at the start of a reselect. The element that heals keeps its state.
    Reselect,
    /// Retry of a Close that failed.
    Closing,
}

impl Call {
    /// The connection of the call.
    pub fn connection(&self) -> &Connection {
        match self {
            Call::Request(request) => &request.connection,
            Call::Close(close) => &close.connection,
        }
    }

    /// Extracts the connection, for an innermost service that returns the connection of the call.
    pub fn into_connection(self) -> Box<Connection> {
        match self {
            Call::Request(request) => request.connection,
            Call::Close(close) => close.connection,
        }
    }

    /// The context of the call.
    pub fn context(&self) -> &CallContext {
        match self {
            Call::Request(request) => &request.context,
            Call::Close(close) => &close.context,
        }
    }
}

impl Request {
    /// A Request with the default deadline.
    pub fn new(connection: Box<Connection>) -> Self {
        Self { connection, preferences: Vec::new(), context: CallContext::within(DEFAULT_TIMEOUT) }
    }
}

impl Close {
    /// A Close with the default deadline.
    pub fn new(connection: Box<Connection>) -> Self {
        Self { connection, context: CallContext::within(DEFAULT_TIMEOUT) }
    }
}

impl CallContext {
    /// Context of a caller with a deadline `timeout` from now.
    pub fn within(timeout: Duration) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            origin: Origin::Caller,
            scope: Scope::default(),
            events: Events::default(),
            extensions: http::Extensions::new(),
        }
    }

    /// Time left until the deadline; zero once it has passed.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
