// SPDX-License-Identifier: Apache-2.0

//! State machine of one connection, processing one call at a time.
//!
//! ```text
//!              Request ok              Close ok
//!   (none) ───────────────▶ established ───────▶ (none): the lane ends
//!                               │  ▲
//!                    Close fails│  │Request ok
//!                               ▼  │
//!                              closing ── Close ok, or the path has expired ──▶ (none)
//! ```
//! 1. Every call is cancelled at its deadline. A panic becomes an error of its call.
//! 2. A Request that expired or whose caller left while queued is not started. A Close always is,
//!    with a new deadline if needed.
//! 3. A failed Request changes nothing. A Close is done for the last established connection; on
//!    success the scope is dropped.
//! 4. A failed Close is retried with backoff. Values it took from the scope stay taken. A caller's
//!    Close that an element denied is not retried: a caller that may not close must not make the
//!    lane do it.
//! 5. Events of a connection that is not established are discarded.
//! 6. If a reselect started by an event fails, the connection stays established and is retried. If
//!    one started by a caller fails, the caller gets the error and the connection ends.
//! 7. A Request that fails after the next hop has [`Answered`] it for the first time is closed
//!    there: the caller gets the error, and the lane is as after a failed Close.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    api::{Connection, Mechanism, State},
    chain::{
        Answered, Call, CallContext, Close, EventKind, Events, Frame, Origin, Reason, Request, Result,
        begin::{
            Mode,
            closing::{self, Closing},
            cut::cut,
            event::{EventCall, OnEvent},
            lanes::Lanes,
            mailbox::{Job, Mailbox, Reply, Work},
            merge,
        },
        call::DEFAULT_TIMEOUT,
    },
};

pub(crate) struct Lane {
    pub(crate) id: String,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) lanes: Arc<Lanes>,
    bottom: Frame,
    established: Option<Established>,
    closing: Option<Closing>,
}

/// The last successful Request and its answer.
#[derive(Clone)]
struct Established {
    connection: Arc<Connection>, // as last answered from below
    returned: Arc<Connection>,   // as last answered to the caller
    preferences: Vec<Mechanism>,
    extensions: http::Extensions,
    timeout: Duration, // of the first call
}

impl Lane {
    pub(crate) fn new(id: String, mailbox: Arc<Mailbox>, lanes: Arc<Lanes>) -> Self {
        Self { id, mailbox, lanes, bottom: Frame::bottom(), established: None, closing: None }
    }

    /// Process jobs until the connection is gone and the queue is empty. The last answer is sent
    /// after the lane is removed.
    pub(crate) async fn run(mut self) {
        loop {
            let answer = tokio::select! {
                biased;
                () = closing::again(self.closing.as_ref()) => { self.close_again().await; None }
                // In a box: a lane that waits need not keep room for a call.
                job = self.mailbox.next() => Box::pin(self.work(job)).await,
            };
            let done = self.established.is_none() && self.lanes.retire(&self.id, &self.mailbox);
            if let Some((reply, origin, answer)) = answer
                && let Err(unheard) = reply.send(answer.map_err(|error| error.of(&self.id)))
                && origin == Origin::Caller
            {
                let id = &self.id;
                let error = unheard.err().map(tracing::field::display);
                tracing::info!(id, error, "the caller no longer waits for the answer");
            }
            if done {
                return;
            }
        }
    }

    async fn work(&mut self, job: Job) -> Option<(Reply, Origin, Result<Box<Connection>>)> {
        if !job.wanted() {
            return None;
        }
        let Job { work, reply, span } = job;
        let origin = match &work {
            Work::Call(_) => Origin::Caller,
            Work::Event { kind, .. } => Origin::Event(*kind),
        };
        let answer = match work {
            Work::Call(Call::Request(request)) => self.request(request).instrument(span).await,
            Work::Call(Call::Close(close)) => self.close(close).instrument(span).await,
            Work::Event { kind, call, .. } => {
                let root = tracing::info_span!(parent: None, "event", ?kind, id = self.id);
                if let Some(on) =
                    self.established.as_ref().and_then(|established| established.extensions.get::<OnEvent>())
                {
                    (on.0)(&root);
                }
                self.event(kind, call).instrument(root).await
            }
        };
        Some((reply, origin, answer))
    }

    /// Handles a Request of a caller.
    async fn request(&mut self, mut request: Request) -> Result<Box<Connection>> {
        if request.context.left().is_zero() {
            return Err(Reason::Deadline.into());
        }
        let reselect = request.connection.state() == State::ReselectRequested;
        match (&self.established, self.lanes.mode) {
            (Some(established), Mode::Client) if self.closing.is_some() => {
                merge::reopen(&mut request.connection, &established.connection);
            }
            (Some(established), Mode::Client) => {
                let returned = Some(&*established.returned);
                let current = Some(&*established.connection);
                request.connection = merge::merge(returned, request.connection, current);
            }
            (Some(_), Mode::Endpoint) if reselect => self.close_first().await,
            (Some(_), Mode::Endpoint) | (None, _) => {}
        }
        self.establish(request, None).await
    }

    /// Passes a Request down, and remembers it and its answer only on success.
    async fn establish(
        &mut self,
        mut request: Request,
        returned: Option<Arc<Connection>>,
    ) -> Result<Box<Connection>> {
        let left = request.context.left();
        let timeout = self.established.as_ref().map_or(left, |established| established.timeout);
        let preferences = request.preferences.clone();
        let extensions = request.context.extensions.clone();
        request.context.scope = self.bottom.scope();
        request.context.events = self.events();
        let deadline = request.context.deadline;
        let scope = self.bottom.scope();
        let held = Answered::of(&scope);
        let answer = cut(deadline, self.lanes.next.request(request)).await;
        let established = |connection: Arc<Connection>| Established {
            returned: returned.unwrap_or_else(|| Arc::clone(&connection)),
            connection,
            preferences,
            extensions,
            timeout,
        };
        match (answer, held, Answered::of(&scope)) {
            (Ok(mut connection), ..) => {
                connection.set_state(State::Up);
                self.closing = None;
                self.established = Some(established(Arc::new((*connection).clone())));
                Ok(connection)
            }
            (Err(error), None, Some(held)) => {
                self.close_unwanted(established(held)).await;
                Err(error)
            }
            (Err(error), ..) => Err(error),
        }
    }

    /// Rule 7. A connection that was let go for a reselect stays established (rule 6); that of a
    /// failed Close is closed later anyway.
    async fn close_unwanted(&mut self, unwanted: Established) {
        match &self.established {
            None => {
                self.closing = Some(Closing::due(&unwanted.connection));
                self.established = Some(unwanted);
            }
            Some(_) if self.closing.is_some() => {}
            Some(_) => {
                let close = self.close_for(EventKind::Reselect, &unwanted);
                if let Err(error) = self.close_below(close, &unwanted).await {
                    tracing::warn!(id = self.id, %error, "could not close what a failed reselect has made");
                }
            }
        }
    }

    /// Handles a Close of a caller or an event.
    async fn close(&mut self, close: Close) -> Result<Box<Connection>> {
        let Some(established) = &self.established else {
            return Ok(close.connection);
        };
        let caller = close.context.origin == Origin::Caller;
        let answer = self.close_below(close, established).await;
        match answer {
            Ok(_) => self.forget(),
            Err(ref denied) if caller && matches!(denied.reason(), Reason::Denied(_)) => {}
            Err(_) => self.closing = Some(Closing::after(self.closing.take(), &established.connection)),
        }
        answer
    }

    /// Passes a Close down for the last established connection.
    async fn close_below(&self, mut close: Close, established: &Established) -> Result<Box<Connection>> {
        if close.context.left().is_zero() {
            close.context.deadline = Instant::now() + established.timeout.max(DEFAULT_TIMEOUT);
        }
        close.connection = Box::new((*established.connection).clone());
        close.context.scope = self.bottom.scope();
        close.context.events = self.events();
        cut(close.context.deadline, self.lanes.next.close(close)).await
    }

    /// Handles an event.
    async fn event(&mut self, kind: EventKind, call: EventCall) -> Result<Box<Connection>> {
        let mut established = self.established.clone().ok_or(Reason::Ended)?;
        if call == EventCall::Close {
            return self.close(self.close_for(kind, &established)).await;
        }
        if self.closing.is_some() {
            return Err(Reason::Ended.into());
        }
        if let EventCall::Reselect { keep_endpoint } = call {
            self.let_go(&mut established, keep_endpoint).await;
        }
        let request = Request {
            connection: Box::new((*established.connection).clone()),
            preferences: established.preferences.clone(),
            context: self.context_for(kind, &established),
        };
        self.establish(request, Some(established.returned)).await
    }

    /// First half of a reselect started by an event. The connection is closed below but stays
    /// established, and values that no element takes (the lease, the heal task) stay in the scope,
    /// so that a failure of the second half can be retried.
    async fn let_go(&mut self, established: &mut Established, keep_endpoint: bool) {
        let close = self.close_for(EventKind::Reselect, established);
        if let Err(error) = self.close_below(close, established).await {
            tracing::warn!(%error, "could not close before reselect");
        }
        let mut connection = (*established.connection).clone();
        merge::reselect(&mut connection, keep_endpoint);
        established.connection = Arc::new(connection);
        self.established = Some(established.clone());
    }

    /// First half of a reselect by a caller: close the old connection. If that fails the Request
    /// continues nevertheless.
    async fn close_first(&mut self) {
        if let Some(established) = &self.established
            && let Err(error) = self.close(self.close_for(EventKind::Reselect, established)).await
        {
            tracing::warn!(%error, "could not close before reselect");
        }
    }

    /// Retries a failed Close (rule 4).
    async fn close_again(&mut self) {
        let (Some(established), Some(closing)) = (&self.established, &self.closing) else {
            return;
        };
        if closing.is_over() {
            tracing::warn!(id = self.id, "gave up closing: the path has expired");
            return self.forget();
        }
        if let Err(error) = self.close(self.close_for(EventKind::Closing, established)).await {
            tracing::debug!(id = self.id, %error, "could not close, trying again");
        }
    }

    /// Forgets the connection and drops its scope.
    fn forget(&mut self) {
        self.established = None;
        self.closing = None;
        self.bottom = Frame::bottom();
    }

    fn close_for(&self, kind: EventKind, established: &Established) -> Close {
        Close {
            connection: Box::default(), // the lane inserts the last good one
            context: self.context_for(kind, established),
        }
    }

    fn context_for(&self, kind: EventKind, established: &Established) -> CallContext {
        let mut context = CallContext::within(established.timeout);
        context.origin = Origin::Event(kind);
        context.extensions = established.extensions.clone();
        context
    }

    fn events(&self) -> Events {
        Events::of(&self.mailbox)
    }
}

/// An aborted lane leaves nothing behind: its frames are dropped and its queued jobs are answered
/// with `Ended`.
impl Drop for Lane {
    fn drop(&mut self) {
        self.lanes.remove(&self.id, &self.mailbox);
    }
}
