// SPDX-License-Identifier: Apache-2.0

//! Keeps one connection.
//!
//! ```text
//!  ──▶ requesting ── answered ──▶ up ◀──▶ healing
//!        │  ▲ error: pause         │         │
//!        └──┘                      │ close   │
//!        │ close                   ▼         │
//!        └─────────────────────▶ closing ◀───┘ ──▶ closed
//! ```
//! 1. nsmgr is queried for the connection of an earlier process before the first Request. While it
//!    cannot be reached no Request is made: it would make a second connection beside that one.
//! 2. A connection of an earlier process is requested as it is, which changes nothing if both ends
//!    still have it. If that fails, it is reselected: requested without mechanism and endpoint.
//! 3. A Request that fails is repeated after 0.5 s, then after twice as long each time, up to 10 s,
//!    with jitter.
//! 4. Once the connection is established, the chain refreshes and heals it.
//! 5. A link that is closed or dropped does not wait for a Request in progress; Close follows in
//!    any case.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Client, Id, LinkState, recovery,
    report::Reporter,
    retries::{self, Attempts},
};
use crate::{
    api::{Connection, Mechanism, NsUrl},
    app::changes::PAYLOAD,
    chain::{CallContext, Close, Reason, Request, Result, causes},
    transport::DialError,
};

/// A connection that is kept for as long as this lives. Dropping it closes the connection in the
/// background; [`close`](Self::close) waits for that.
///
/// ```
/// use std::{error::Error, time::Duration};
///
/// /// Connects until `stop` completes.
/// async fn keep(client: nsm::Client, stop: impl Future<Output = ()>) -> Result<(), Box<dyn Error>> {
///     let link = client.connect(&"kernel://web/nsm-1".parse()?);
///     let connection = link.up().await?;
///     println!("{} has {:?}", link.id(), connection.ip_context());
///     stop.await;
///     Ok(link.close(Duration::from_secs(5)).await?)
/// }
/// ```
pub struct Link {
    id: String,
    state: watch::Receiver<LinkState>,
    _open: DropGuard,
}

impl Link {
    pub(super) fn start(client: &Client, url: &NsUrl, id: Id) -> Self {
        let closing = CancellationToken::new();
        let reporter = Reporter(watch::Sender::new(LinkState::Requesting { error: None }));
        let link =
            Self { id: id.text.clone(), state: reporter.0.subscribe(), _open: closing.clone().drop_guard() };
        let worker = Worker { url: url.clone(), id, reporter };
        client.0.tasks.spawn(worker.run(closing));
        link
    }

    /// The id of the connection.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The state of the link, and its changes.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Waits until the connection is established. Cancel-safe.
    ///
    /// # Errors
    /// [`Reason::Ended`] if the tasks of the client have been stopped.
    pub async fn up(&self) -> Result<Arc<Connection>> {
        let mut state = self.state();
        let up = state.wait_for(|state| matches!(state, LinkState::Up(_))).await;
        match up.as_deref() {
            Ok(LinkState::Up(connection)) => Ok(Arc::clone(connection)),
            _ => Err(Reason::Ended.into()),
        }
    }

    /// Closes the connection. If the peer does not answer, the client goes on closing in the
    /// background until its tasks are stopped.
    ///
    /// # Errors
    /// [`Reason::Deadline`] if it is not closed `within` this time.
    pub async fn close(self, within: Duration) -> Result<()> {
        let Self { mut state, _open: open, .. } = self;
        drop(open);
        // The sender is gone if the tasks of the client have been stopped: nothing closes any more.
        let closed = state.wait_for(|state| *state == LinkState::Closed);
        timeout(within, closed).await.map(drop).map_err(|_| Reason::Deadline.into())
    }
}

/// The task of a link.
struct Worker {
    url: NsUrl,
    id: Id,
    reporter: Reporter,
}

/// The connection of the next Request.
enum Start {
    /// There is no earlier connection.
    New,
    /// The connection of an earlier process.
    Recovered(Box<Connection>),
}

impl From<Option<Box<Connection>>> for Start {
    fn from(left: Option<Box<Connection>>) -> Self {
        left.map_or(Self::New, Self::Recovered)
    }
}

impl Attempts for Worker {
    type Start = Start;

    /// Rule 1.
    async fn find(&self) -> Result<Option<Box<Connection>>, DialError> {
        recovery::find(&self.id.client.0.nsmgr, &self.id.text).await
    }

    /// Rule 2.
    async fn attempt(&self, start: &mut Start) -> Result<Box<Connection>> {
        match start {
            Start::New => self.request(self.base()).await,
            Start::Recovered(left) => {
                let known = left.mechanism.is_some();
                tracing::info!(id = self.id.text, known, "continuing the connection of an earlier process");
                let connection = if known { left.clone() } else { recovery::reselect(left.clone(), "") };
                let answer = self.request(connection).await;
                left.mechanism = None;
                answer
            }
        }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) {
        if self.reporter.report(LinkState::Requesting { error: Some(causes(error)) }) {
            tracing::warn!(id = self.id.text, error, "not connected");
        }
    }
}

impl Worker {
    /// Runs until the link is dropped and the connection closed.
    async fn run(self, closing: CancellationToken) {
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            () = retries::connect(&self) => {
                tracing::info!(id = self.id.text, "connected");
                closing.cancelled().await;
            }
        }
        self.reporter.0.send_replace(LinkState::Closing);
        self.close().await;
        self.reporter.0.send_replace(LinkState::Closed);
    }

    async fn request(&self, connection: Box<Connection>) -> Result<Box<Connection>> {
        let mut context = CallContext::within(self.id.client.0.request_timeout);
        context.extensions.insert(self.reporter.clone());
        let preferences: Vec<Mechanism> = vec![self.url.mechanism()];
        self.id.client.0.chain.request(Request { connection, preferences, context }).await
    }

    fn base(&self) -> Box<Connection> {
        let mut connection = self.url.connection(self.id.text.as_str());
        connection.payload = PAYLOAD.into();
        connection
    }

    /// Closes once. If that fails, the chain goes on closing by itself.
    async fn close(&self) {
        let context = CallContext::within(self.id.client.0.request_timeout);
        match self.id.client.0.chain.close(Close { connection: self.base(), context }).await {
            Ok(_) => tracing::info!(id = self.id.text, "closed"),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(id = self.id.text, error, "not closed");
            }
        }
    }
}
