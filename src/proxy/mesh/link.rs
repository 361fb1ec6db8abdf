// SPDX-License-Identifier: Apache-2.0
//! Connects to one load balancer, for as long as it is wanted.
//!
//! ```text
//!            ┌──────────── wanted again ───────────┐
//!            ▼                                     │
//!  ──▶ requesting ── answered ──▶ connected        │
//!        │  ▲ error: pause          │              │
//!        └──┘                       │ not wanted   │
//!        │ not wanted               ▼              │
//!        └─────────────────────▶ closing ──────────┴──▶ (end)
//! ```
//! 1. The connection id is `<proxy>-<network service>-<endpoint>`: the same after a restart.
//! 2. A Request that fails is repeated after 0.5 s, then after twice as long each time, up to 10 s,
//!    with jitter.
//! 3. When the load balancer goes, a Request in progress is no longer waited for, and Close follows
//!    in any case.
//! 4. Once the connection is established, the chain refreshes and heals it.
//! 5. A recovered connection whose load balancer answers over its link is continued as it is, also
//!    when that fails at first. The others are re-made one at a time, so that not all next hops go
//!    at once; but none waits longer than 5 s.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{LinkState, Recovery, Settings, Status};
use crate::{
    api::{Connection, Mechanism, MechanismKind},
    app::{
        PAYLOAD,
        client::{
            recovery::reselect,
            retries::{self, Attempts},
        },
    },
    chain::{CallContext, Close, Next, Request, Result, causes},
    elements::heal::Verdict,
    transport::DialError,
};

/// Longest wait for another recovered connection (rule 5).
const TURN: Duration = Duration::from_secs(5);

/// State shared by all links of a mesh.
pub(super) struct Common<R> {
    pub(super) settings: Settings,
    pub(super) chain: Next,
    pub(super) recovery: R,
    pub(super) turn: Semaphore,
    pub(super) status: watch::Sender<Status>,
}

pub(super) struct Link<R> {
    endpoint: String,
    id: String,
    common: Arc<Common<R>>,
    wanted: watch::Receiver<bool>,
}

/// The initial state of a connection.
pub(super) enum Start {
    /// There is no earlier connection.
    New,
    /// The connection of an earlier process.
    Recovered(Box<Connection>),
    /// The connection of an earlier process; its link is made again.
    Replaced(Box<Connection>),
}

impl From<Option<Box<Connection>>> for Start {
    fn from(left: Option<Box<Connection>>) -> Self {
        left.map_or(Self::New, Self::Recovered)
    }
}

impl<R: Recovery> Attempts for Link<R> {
    type Start = Start;

    async fn find(&self) -> Result<Option<Box<Connection>>, DialError> {
        self.common.recovery.find(&self.id).await
    }

    /// Rule 5.
    async fn attempt(&self, start: &mut Start) -> Result<Box<Connection>> {
        let recovery = &self.common.recovery;
        if let Start::Recovered(left) = start
            && (left.mechanism.is_none() || recovery.verdict(left).await != Verdict::Alive)
        {
            *start = Start::Replaced(left.clone());
        }
        match start {
            Start::New => self.request(self.base()).await,
            Start::Recovered(left) => {
                tracing::info!(id = self.id, "continuing the connection of an earlier process");
                self.request(left.clone()).await
            }
            Start::Replaced(left) => {
                let _turn = timeout(TURN, self.common.turn.acquire()).await;
                tracing::info!(id = self.id, "replacing the link of an earlier process");
                recovery.withdraw(left).await;
                self.request(reselect(left.clone(), &self.endpoint)).await
            }
        }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) {
        if self.report(LinkState::Requesting { error: Some(causes(error)) }) {
            tracing::warn!(id = self.id, error, "load balancer not connected");
        }
    }
}

impl<R: Recovery> Link<R> {
    pub(super) fn new(endpoint: &str, common: Arc<Common<R>>, wanted: watch::Receiver<bool>) -> Self {
        let id = common.settings.connection_id(endpoint); // rule 1
        let link = Self { endpoint: endpoint.to_owned(), id, common, wanted };
        link.report(LinkState::Requesting { error: None });
        link
    }

    /// Runs until the load balancer is not wanted and its connection is closed.
    pub(super) async fn run(self) {
        let mut wanted = self.wanted.clone();
        while *wanted.borrow_and_update() {
            tokio::select! {
                biased;
                _unwanted = self.unwanted() => {}
                () = self.connect() => {
                    self.report(LinkState::Connected);
                    tracing::info!(id = self.id, "connected to load balancer");
                    self.unwanted().await;
                }
            }
            self.report(LinkState::Closing);
            self.close().await;
        }
    }

    async fn unwanted(&self) {
        // An error means that the mesh is gone; nothing is wanted any more.
        let mut wanted = self.wanted.clone();
        let _gone = wanted.wait_for(|wanted| !wanted).await;
    }

    async fn connect(&self) {
        self.report(LinkState::Requesting { error: None });
        retries::connect(self).await;
    }

    async fn request(&self, connection: Box<Connection>) -> Result<Box<Connection>> {
        let context = CallContext::within(self.common.settings.request_timeout);
        let preferences = vec![Mechanism::local(MechanismKind::Kernel)];
        self.common.chain.request(Request { connection, preferences, context }).await
    }

    fn base(&self) -> Box<Connection> {
        let mut connection = Connection::named(self.id.as_str());
        connection.network_service.clone_from(&self.common.settings.network_service);
        connection.network_service_endpoint_name.clone_from(&self.endpoint);
        connection.payload = PAYLOAD.into();
        connection
    }

    /// Closes once. If that fails, the chain goes on closing by itself.
    async fn close(&self) {
        let context = CallContext::within(self.common.settings.request_timeout);
        match self.common.chain.close(Close { connection: self.base(), context }).await {
            Ok(_) => tracing::info!(id = self.id, "load balancer closed"),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(id = self.id, error, "load balancer not closed");
            }
        }
    }

    /// Publishes a state; returns whether it has changed.
    fn report(&self, state: LinkState) -> bool {
        self.common.status.send_if_modified(|status| {
            let before = status.links.insert(self.endpoint.clone(), state.clone());
            before.as_ref() != Some(&state)
        })
    }
}
