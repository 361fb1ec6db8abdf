// SPDX-License-Identifier: Apache-2.0

//! Serializes the calls of each connection id (NSM `begin`).
//!
//! Each connection id has a lane: a task that processes its calls in order. The work runs in that
//! task, so a caller that is cancelled only stops waiting and never leaves a half-done call behind.
//!
//! A connection belongs to the [`Owner`] of its first Request. Calls of another owner are denied
//! without reaching its lane.
//!
//! # Order
//! Below `update_path`, which determines the id, and below the endpoint's `authorize`, which
//! determines the owner: NSM has that one below `begin`, so that the Close at the start of a
//! reselect comes before it. Above every element with state.

mod answered;
mod closing;
mod cut;
pub(crate) mod event;
mod lane;
pub(crate) mod lanes;
pub(super) mod mailbox;
pub(crate) mod merge;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep_until},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    api::Connection,
    chain::{
        Call, Error, Next, Owner, Reason, Result, Row, Scope,
        begin::{
            lanes::Lanes,
            mailbox::{Job, Work},
        },
        element::CallService,
    },
    task::Tasks,
};

pub use self::{
    answered::Answered,
    event::{Events, Outcome},
};

/// Role of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Client: a Request is merged with the established connection: the changes of the
    /// caller since its last answer are taken, and those that events have made are kept.
    Client,
    /// Endpoint: a Request is taken as it comes; a reselect closes the old connection first.
    Endpoint,
}

/// Layer that produces [`Begin`].
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default(); // owns a task for each connection
/// let chain = Chain::new().with(BeginLayer::endpoint(tasks.clone())).build()?;
/// chain.request(Request::new(Connection::named("a"))).await?;
/// assert_eq!(tasks.len(), 1);
/// tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct BeginLayer {
    mode: Mode,
    tasks: Tasks,
}

impl BeginLayer {
    /// Name of the row.
    pub const NAME: &'static str = "begin";

    /// For a client chain.
    pub fn client(tasks: Tasks) -> Self {
        Self { mode: Mode::Client, tasks }
    }

    /// For an endpoint chain.
    pub fn endpoint(tasks: Tasks) -> Self {
        Self { mode: Mode::Endpoint, tasks }
    }
}

impl<S: CallService> Layer<S> for BeginLayer {
    type Service = Begin;

    fn layer(&self, inner: S) -> Begin {
        let next = Next::of("end", inner);
        Begin { lanes: Lanes::new(next, self.mode, self.tasks.clone()) }
    }
}

impl Row for BeginLayer {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn service(self, next: Next) -> impl CallService {
        self.layer(next)
    }
}

/// Service that serializes calls; see the module documentation.
#[derive(Clone)]
pub struct Begin {
    lanes: Arc<Lanes>,
}

impl Begin {
    /// Number of connections that are established or in progress.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }
}

impl Service<Call> for Begin {
    type Response = Box<Connection>;
    type Error = Error;
    type Future = BeginFuture;

    /// Always ready: a full mailbox refuses that call without delaying others.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> BeginFuture {
        let deadline = call.context().deadline + GRACE;
        let id = call.connection().id.clone();
        let owner = call.context().extensions.get::<Owner>().cloned();
        // Scope of an enclosing chain, if this chain is its next hop.
        let outer = match &call {
            Call::Request(request) => Some(request.context.scope.clone()).filter(Scope::is_open),
            Call::Close(close) => {
                drop(close.context.scope.take::<Answered>());
                None
            }
        };
        let (reply, answer) = oneshot::channel();
        let job = Job { work: Work::Call(call), reply, span: tracing::Span::current() };
        let refused = self.lanes.offer(&id, owner, job).err();
        BeginFuture { id, outer, refused, answer, deadline: sleep_until(deadline) }
    }
}

/// Time in which the lane can report the element that a call was in at its deadline.
const GRACE: Duration = Duration::from_millis(100);

/// Future of a call: the lane's answer, or `Deadline` if the lane is still busy with another call
/// shortly after the deadline.
#[pin_project]
pub struct BeginFuture {
    id: String,
    outer: Option<Scope>,
    refused: Option<Error>,
    #[pin]
    answer: oneshot::Receiver<Result<Box<Connection>>>,
    #[pin]
    deadline: Sleep,
}

impl Future for BeginFuture {
    type Output = Result<Box<Connection>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(refused) = this.refused.take() {
            return Poll::Ready(Err(refused.of(this.id)));
        }
        if let Poll::Ready(sent) = this.answer.poll(cx) {
            let answer = sent.unwrap_or_else(|_| Err(Reason::Ended.into()));
            if let (Some(outer), Ok(connection)) = (this.outer, &answer) {
                outer.insert(Answered::with((**connection).clone()));
            }
            return Poll::Ready(answer);
        }
        ready!(this.deadline.poll(cx));
        Poll::Ready(Err(Error::from(Reason::Deadline).of(this.id)))
    }
}
