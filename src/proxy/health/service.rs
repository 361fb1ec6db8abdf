// SPDX-License-Identifier: Apache-2.0
//! Serves Check and Watch from the board.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use super::{Board, Health};

/// Implementation of `grpc.health.v1.Health` over a [`Health`].
#[derive(Clone, Debug)]
pub struct Service {
    health: Health,
}

impl Service {
    pub(super) fn new(health: Health) -> Self {
        Self { health }
    }
}

#[tonic::async_trait]
impl health_server::Health for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// NOT_FOUND for an unknown name.
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        let board = self.health.0.borrow();
        match status(&board, &name) {
            ServingStatus::ServiceUnknown => Err(unknown(&name)),
            known => Ok(Response::new(response(known))),
        }
    }

    /// The present state, then every change. The stream of an unknown name reports that and stays
    /// open, as the protocol requires.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().service;
        let mut last = None;
        let changes = WatchStream::new(self.health.subscribe()).filter_map(move |board| {
            let now = status(&board, &name);
            let change = (last.replace(now) != Some(now)).then(|| Ok(response(now)));
            std::future::ready(change)
        });
        Ok(Response::new(changes.boxed()))
    }
}

fn status(board: &Board, name: &str) -> ServingStatus {
    match board.of(name).map(|verdict| verdict.serving) {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn unknown(name: &str) -> Status {
    let name: String = name.chars().take(64).collect();
    Status::not_found(format!(
        "`{name}` is not a service (known: Liveness, Readiness, IPAMCli, NSPCli, NSMEndpoint, Egress and the empty name)"
    ))
}
