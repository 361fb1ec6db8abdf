// SPDX-License-Identifier: Apache-2.0
//! Waits for the inputs of the stages, and reports each wait in the log and in health.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::Failure;
use crate::{
    App,
    chain::causes,
    kernel::Kernel,
    proxy::{
        health::{Health, READINESS},
        mesh,
    },
    registry::{State, discovery::CompleteList},
    transport::Identity,
};

/// Time after which a continuing wait is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(2);

pub(super) async fn identity(app: &App, health: &Health) -> Identity {
    let identity = app.identity().clone();
    health.waits_on("the SPIFFE Workload API");
    loop {
        match identity.ready(Instant::now() + LOG_INTERVAL).await {
            Ok(svid) => {
                tracing::info!(id = svid.id(), "identity");
                return identity;
            }
            Err(error) => health.waits_on(&format!("the SPIFFE Workload API: {}", causes(&error))),
        }
    }
}

/// Waits until no packet that enters by the bridge can leave by the primary network: no target may
/// be answered before.
pub(super) async fn leak_stop(kernel: &Kernel, health: &Health) -> Result<(), Failure> {
    let step = "the leak stop";
    health.works_on(step, None);
    let mut status = kernel.status();
    loop {
        let now = status.borrow_and_update().clone();
        if now.leak_stop {
            return Ok(());
        }
        if let Some(fault) = now.faults().egress.first() {
            health.works_on(step, Some(fault.clone()));
        }
        if status.changed().await.is_err() {
            return Err(Failure::Kernel(kernel.ended().await));
        }
    }
}

/// Waits for the first registration. From then on the health of the endpoint shows whether the
/// start is over.
pub(super) async fn registered(mut state: watch::Receiver<State>, health: &Health) {
    health.waits_on("nsmgr, to register");
    loop {
        let (registered, failure) = {
            let state = state.borrow_and_update();
            (state.is_registered(), state.failure().map(|error| causes(&**error)))
        };
        if registered {
            return health.works_on("the first answer of the own endpoint", None);
        }
        if let Some(failure) = failure {
            health.waits_on(&format!("nsmgr, to register: {failure}"));
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Once the proxy is ready, declares the load balancers in the registry: objects that an earlier
/// process left of others are released.
pub(super) async fn declare_registered(
    health: Health,
    mut lists: watch::Receiver<Option<CompleteList>>,
    mesh: mesh::Settings,
    kernel: Kernel,
) {
    if health
        .subscribe()
        .wait_for(|board| board.of(READINESS).is_some_and(|verdict| verdict.serving))
        .await
        .is_err()
    {
        return;
    }
    let since = Instant::now();
    kernel.ready();
    loop {
        let list = lists.borrow_and_update().clone();
        if let Some(list) = list.filter(|list| list.asked >= since) {
            kernel.set_registered(list.names.iter().map(|name| mesh.connection_id(name)).collect());
        }
        if lists.changed().await.is_err() {
            return;
        }
    }
}
