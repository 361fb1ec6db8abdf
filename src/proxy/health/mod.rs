// SPDX-License-Identifier: Apache-2.0
//! Answer `grpc.health.v1` for the names that Meridio's probes ask for.
//!
//! [`Health`] is the handle with which the stages of the bring-up report; [`serve()`] answers on a unix socket without TLS, as
//! Meridio does for its probes; [`Health::server`] is the same service for the own endpoint; [`probe()`] is the client.

mod board;
mod probe;
mod serve;
mod service;

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tonic_health::pb::health_server::HealthServer;

pub use self::{
    board::{Board, LIVENESS, Part, READINESS, SERVER, Verdict},
    probe::{ProbeError, probe},
    serve::{ServeError, Served, serve},
    service::Service,
};

/// Socket that the probes of Meridio's manifests use.
pub const SOCKET: &str = "/tmp/health.sock";

/// How long Liveness is SERVING while the start waits on a dependency.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The health of the proxy. Clones are one board.
#[derive(Clone, Debug)]
pub struct Health(watch::Sender<Board>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(Board::default()))
    }
}

impl Health {
    /// Report whether a part serves and why. A change of SERVING is logged with the aggregates.
    pub fn set(&self, part: Part, serving: bool, reason: impl Into<String>) {
        let reason = reason.into();
        let mut changed = false;
        self.0.send_if_modified(|board| {
            let same = board.part(part).serving == serving && board.part(part).reason == reason;
            changed = !same && board.set(part, serving, reason.clone());
            !same
        });
        if changed {
            self.log(part.name(), serving, &reason);
        }
    }

    /// Name what the start waits on now, as in `IPAM`.
    pub fn waits_on(&self, what: &str) {
        if self.0.send_if_modified(|board| board.waits_on(what)) {
            tracing::info!(on = what, "start waits");
        }
    }

    /// End the patience with a start that takes longer than `patience`. Run it for as long as the proxy lives.
    pub fn lose_patience(&self, patience: Duration) -> impl Future<Output = ()> + Send + 'static {
        let health = self.clone();
        async move {
            sleep(patience).await;
            if health.0.send_if_modified(Board::lose_patience) {
                tracing::error!(?patience, state = %*health.0.borrow(), "start takes too long");
            }
        }
    }

    /// The health of a service name; `None` if there is no such service.
    pub fn of(&self, service: &str) -> Option<Verdict> {
        self.0.borrow().of(service)
    }

    /// Follow every change.
    pub fn subscribe(&self) -> watch::Receiver<Board> {
        self.0.subscribe()
    }

    /// The gRPC service, to be added to a server.
    pub fn server(&self) -> HealthServer<Service> {
        HealthServer::new(Service::new(self.clone())).max_decoding_message_size(4096)
    }

    fn log(&self, service: &str, serving: bool, reason: &str) {
        let board = self.0.borrow();
        let of = |name| board.of(name).is_some_and(|verdict| verdict.serving);
        let (readiness, liveness) = (of(READINESS), of(LIVENESS));
        tracing::info!(service, serving, reason, readiness, liveness, "health changed");
    }
}

#[cfg(test)]
mod tests;
