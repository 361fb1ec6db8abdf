// SPDX-License-Identifier: Apache-2.0

//! Requests a connection of ours again when the address service has moved its addresses, and when
//! its former ones are not needed any more.
//!
//! NSM's forwarders bring the addresses of a link to the list of each Request, so the link stays,
//! and traffic with it.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

use super::{former::Former, names};
use crate::{
    chain::{EventKind, Events, Reason},
    ipam::{self, Leases},
    task::{Backoff, Task},
};

/// Time for the bridge to get an address in the new subnet, once its own lease has it.
const BRIDGED: Duration = Duration::from_millis(500);
/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Requests a connection again when necessary. Kept in the scope of the connection, and replaced by
/// each Request that succeeds.
pub(super) struct Moving(#[expect(dead_code, reason = "a guard")] Task);

impl Moving {
    /// Watches the leases of a client's connection, and those in the subnets of its former
    /// addresses.
    pub(super) fn watch(leases: &Leases, client: &str, former: Former, events: &Events) -> Self {
        let status = leases.status();
        let names = names(client);
        let id = client.to_owned();
        Self(events.spawn(move |events| async move {
            tokio::select! {
                () = moved(status.clone(), &names) => {
                    tracing::warn!(id, "IPAM has moved the addresses of this connection: it is requested with the new ones");
                    sleep(BRIDGED).await;
                }
                () = former.left(status) => {
                    tracing::info!(id, "no connection is left in the former subnet: its addresses are dropped");
                }
            }
            request(&events).await;
        }))
    }
}

/// Waits until a lease of a connection has other addresses and the bridge is in their subnet
/// already.
async fn moved(mut status: watch::Receiver<ipam::Status>, names: &[String; 2]) {
    let due = status.wait_for(|ipam::Status { moved, .. }| {
        !moved.contains(ipam::BRIDGE) && names.iter().any(|name| moved.contains(name.as_str()))
    });
    if due.await.is_err() {
        std::future::pending().await
    }
}

async fn request(events: &Events) {
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
    while let Err(error) = events.request(EventKind::Refresh).await {
        if matches!(error.reason(), Reason::Ended) {
            return;
        }
        tracing::warn!(%error, "a connection does not have its new addresses yet, trying again");
        sleep(pauses.delay()).await;
    }
}
