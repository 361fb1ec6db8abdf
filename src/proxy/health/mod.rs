// SPDX-License-Identifier: Apache-2.0
//! Answers `grpc.health.v1` for the names that Meridio's probes query.
//!
//! [`Health`] is the handle by which the stages of the start report; [`serve()`] answers on a unix
//! socket without TLS, as Meridio does for its probes; [`Health::server`] is the same service for
//! the own endpoint; [`probe()`] is the client.

mod board;
mod probe;
mod serve;
mod service;

use std::time::Duration;

use tokio::{sync::watch, time::timeout};
use tonic_health::pb::health_server::HealthServer;

pub(crate) use self::board::LIVENESS;
use self::board::{Changes, Progress, State};
pub use self::{
    board::{Board, Part, READINESS, SERVER, Verdict},
    probe::{ProbeError, probe},
    serve::{Served, serve},
    service::Service,
};

/// Socket that the probes of Meridio's manifests use.
pub const SOCKET: &str = "/tmp/health.sock";

/// Maximum duration of a step of the start that waits for nothing outside the process.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(600);

/// The health of the proxy. Clones share one board.
#[derive(Clone, Debug)]
pub struct Health(watch::Sender<Board>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(Board::default()))
    }
}

impl Health {
    /// Reports whether a part serves and why. A change is logged with the aggregates; a change of
    /// the reason alone is logged only if the part does not serve.
    pub fn set(&self, part: Part, serving: bool, reason: impl Into<String>) {
        self.change(part, State { serving, reason: reason.into(), outside: false });
    }

    /// Reports that a part does not serve because something outside the process is missing.
    /// Liveness does not depend on it.
    pub fn lacks(&self, part: Part, reason: impl Into<String>) {
        self.change(part, State { serving: false, reason: reason.into(), outside: true });
    }

    fn change(&self, part: Part, state: State) {
        let mut before = None;
        self.0.send_if_modified(|board| {
            before = board.set(part, state);
            before.is_some()
        });
        if let Some(before) = before {
            self.log(part, &before);
        }
    }

    /// Replaces the degradations that `source` has found in a part. A degradation is logged when it
    /// begins and when it ends; an empty list ends those of the source. Texts must not contain
    /// values that change all the time, such as a count.
    pub fn degrade(&self, part: Part, source: &'static str, found: impl IntoIterator<Item = String>) {
        let found = found.into_iter().collect();
        let mut changes = Changes::default();
        self.0.send_if_modified(|board| {
            changes = board.degrade(part, source, found);
            !changes.is_empty()
        });
        for what in changes.begun {
            tracing::warn!(service = part.name(), source, what, "degraded");
        }
        for what in changes.over {
            tracing::info!(service = part.name(), source, what, "no longer degraded");
        }
    }

    /// Reports the dependency outside the process that the start waits for, such as `IPAM`. A
    /// restart would not bring it: Liveness is SERVING.
    pub fn waits_on(&self, what: &str) {
        if self.0.send_if_modified(|board| board.progress(Progress::Waits(what.to_owned()))) {
            tracing::info!(on = what, "start waits");
        }
    }

    /// Reports the current step of the start inside the process, such as `the leak stop`, and its
    /// last failure.
    pub fn works_on(&self, step: &'static str, failure: Option<String>) {
        let failed = failure.clone();
        if self.0.send_if_modified(|board| board.progress(Progress::Works(step, failure))) {
            tracing::info!(on = step, failed, "start works");
        }
    }

    /// Takes Liveness down while a step inside the process takes longer than `limit`. Run it for
    /// as long as the proxy lives.
    pub fn watch_start(&self, limit: Duration) -> impl Future<Output = ()> + Send + 'static {
        let health = self.clone();
        let mut board = self.subscribe();
        async move {
            loop {
                let step = board.borrow_and_update().working_on();
                let next = async { board.wait_for(|board| board.working_on() != step).await.map(drop) };
                let next = match step {
                    Some(_) => timeout(limit, next).await,
                    None => Ok(next.await),
                };
                match next {
                    Ok(Ok(())) => {}
                    Ok(Err(_closed)) => return,
                    Err(_elapsed) => {
                        if health.0.send_if_modified(Board::late) {
                            tracing::error!(step, ?limit, "start takes too long");
                        }
                    }
                }
            }
        }
    }

    /// The health of a service name; `None` if there is no such service.
    pub fn of(&self, service: &str) -> Option<Verdict> {
        self.0.borrow().of(service)
    }

    /// Subscribes to every change.
    pub fn subscribe(&self) -> watch::Receiver<Board> {
        self.0.subscribe()
    }

    /// The gRPC service, to be added to a server.
    pub fn server(&self) -> HealthServer<Service> {
        HealthServer::new(Service::new(self.clone())).max_decoding_message_size(4096)
    }

    fn log(&self, part: Part, before: &State) {
        let board = self.0.borrow().clone();
        let (service, Verdict { serving, reason, .. }) = (part.name(), board.part(part));
        if serving && before.serving {
            return tracing::debug!(service, reason, "health has another reason");
        }
        let of = |name| board.of(name).is_some_and(|verdict| verdict.serving);
        let readiness = of(READINESS);
        let liveness = of(LIVENESS);
        tracing::info!(service, serving, reason, readiness, liveness, "health changed");
    }
}

#[cfg(test)]
mod tests;
