// SPDX-License-Identifier: Apache-2.0

//! Re-make a connection of ours whose addresses the address service has moved.
//!
//! A forwarder does not change the addresses of a link that it has made, so the link is made anew, to the same endpoint: the
//! Close takes traffic off it first. One connection at a time, so that others carry the traffic meanwhile, but a connection
//! that takes long does not keep the next one waiting for more than [`TURN`].

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::names;
use crate::{
    chain::{Events, Kind, Reason, Task},
    ipam::{self, Leases},
    transport::Backoff,
};

/// Longest wait for another connection.
const TURN: Duration = Duration::from_secs(5);
/// Time in which the second lease of a connection is found moved too, if it has.
const SETTLED: Duration = Duration::from_secs(6);
/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Re-makes a connection when it has to. Kept in the scope of the connection, and replaced by each Request that succeeds.
pub(super) struct Moving(#[expect(dead_code, reason = "a guard")] Task);

impl Moving {
    /// Watch the leases of a client's connection. `turn` is shared by all connections.
    pub(super) fn watch(leases: &Leases, client: &str, turn: &Arc<Semaphore>, events: &Events) -> Self {
        let (leases, names, turn) = (leases.clone(), names(client), Arc::clone(turn));
        let id = client.to_owned();
        Self(events.spawn(move |events| async move {
            let mut status = leases.status();
            if status.wait_for(|status| due(status, &names, 1)).await.is_ok() {
                drop(timeout(SETTLED, status.wait_for(|status| due(status, &names, 2))).await);
                tracing::warn!(id, "IPAM has moved the addresses of this connection: it is made anew");
                let _turn = timeout(TURN, turn.acquire()).await;
                remake(&events).await;
            }
        }))
    }
}

/// Whether this many leases of a connection have other addresses now, and the bridge is in their subnet already.
fn due(status: &ipam::Status, names: &[String; 2], count: usize) -> bool {
    let moved = |name: &str| status.moved.contains(name);
    !moved(ipam::BRIDGE) && names.iter().filter(|name| moved(name)).count() >= count
}

async fn remake(events: &Events) {
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
    while let Err(error) = events.reselect(Kind::Refresh, true).await {
        if matches!(error.reason(), Reason::Ended) {
            return;
        }
        tracing::warn!(%error, "a connection with new addresses is not made yet, trying again");
        sleep(pauses.delay()).await;
    }
}
