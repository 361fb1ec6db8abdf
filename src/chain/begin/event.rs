// SPDX-License-Identifier: Apache-2.0

//! Lets an element start calls of its own connection: refresh, heal, or a Close on timeout (NSM
//! `EventFactory`).
//!
//! Such a call enters at `begin` and is queued like a caller's. Never await an [`Outcome`] inside a
//! hook: the lane is busy with that hook. Await it in a [`Task`].

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tokio::sync::oneshot;
use tracing::Span;

use crate::{
    api::Connection,
    chain::{
        EventKind, Reason, Result,
        begin::mailbox::{Job, Mailbox, Work},
    },
    task::Task,
};

/// A function called with the root span of every event of a connection, found in the extensions of
/// its last Request. The trace element uses it to link the span to that Request.
#[derive(Clone)]
pub(crate) struct OnEvent(pub Arc<dyn Fn(&Span) + Send + Sync>);

/// The call that an event requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventCall {
    /// Repeats the last Request.
    Request,
    /// Closes, then requests again on the same path, with or without the same endpoint.
    Reselect { keep_endpoint: bool },
    /// Closes the connection.
    Close,
}

/// Handle to the lane of one connection. Without a lane, or after it has ended, every call returns
/// [`Reason::Ended`].
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     api::Connection,
///     chain::{*, begin::BeginLayer, metadata::MetadataLayer},
///     elements::egress::Egress,
///     task::{Task, Tasks},
/// };
///
/// /// Closes each connection after some time.
/// struct Limit(Duration);
///
/// struct Timer { _task: Task }
///
/// impl Element for Limit {
///     const NAME: &'static str = "limit";
///
///     async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
///         let context = request.context.clone();
///         let answer = next.request(request).await?;
///         let limit = self.0;
///         let _task = context.events.spawn(move |events| async move {
///             tokio::time::sleep(limit).await;
///             let _result = events.close(EventKind::Timeout).await;
///         });
///         context.scope.insert(Timer { _task });
///         Ok(answer)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let egress = Egress::default(); // counts the connections
/// let begin = BeginLayer::endpoint(tasks.clone());
/// let rows = Chain::new().with(begin).with(MetadataLayer).with(egress.clone());
/// let chain = rows.with(Limit(Duration::from_secs(60))).build()?;
/// chain.request(Request::new(Connection::named("a"))).await?;
/// assert_eq!(egress.count(), 1);
/// egress.subscribe().wait_for(|count| *count == 0).await?;
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Events {
    lane: Option<Arc<Mailbox>>,
    under: Option<Weak<()>>, // the task to which these events belong
}

impl Events {
    pub(crate) fn of(lane: &Arc<Mailbox>) -> Self {
        Self { lane: Some(Arc::clone(lane)), under: None }
    }

    /// Repeats the last successful Request.
    pub fn request(&self, kind: EventKind) -> Outcome {
        self.fire(kind, EventCall::Request)
    }

    /// Closes the connection and requests it again.
    pub fn reselect(&self, kind: EventKind, keep_endpoint: bool) -> Outcome {
        self.fire(kind, EventCall::Reselect { keep_endpoint })
    }

    /// Closes the connection.
    pub fn close(&self, kind: EventKind) -> Outcome {
        self.fire(kind, EventCall::Close)
    }

    /// Spawns a task with its own handle. Dropping the guard aborts the task and discards its
    /// queued events.
    pub fn spawn<F, W>(&self, work: F) -> Task
    where
        F: FnOnce(Events) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        let alive = Arc::new(());
        let events = Self { lane: self.lane.clone(), under: Some(Arc::downgrade(&alive)) };
        let lane = self.lane.as_ref();
        Task { handle: lane.map(|lane| lane.tasks.spawn(work(events))), alive: Some(alive) }
    }

    fn fire(&self, kind: EventKind, call: EventCall) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let under = self.under.clone();
        let work = Work::Event { kind, call, under };
        let span = Span::current();
        let job = Job { work, reply, span };
        Outcome(match &self.lane {
            Some(lane) => lane.push(job).map(|()| answer).map_err(Some),
            None => Err(Some(Reason::Ended.into())),
        })
    }
}

/// Future of an event's result. Dropping it does not cancel the event, which lives as long as its
/// [`Task`] and its lane.
#[derive(Debug)]
pub struct Outcome(Result<oneshot::Receiver<Result<Box<Connection>>>, Option<crate::chain::Error>>);

impl Future for Outcome {
    type Output = Result<Box<Connection>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(answer) => {
                Pin::new(answer).poll(cx).map(|sent| sent.unwrap_or_else(|_| Err(Reason::Ended.into())))
            }
            Err(refused) => Poll::Ready(Err(refused.take().unwrap_or(Reason::Ended.into()))),
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.lane.is_some() { "Events" } else { "Events(no lane)" })
    }
}
