// SPDX-License-Identifier: Apache-2.0
//! Takes down everything that is up, from the last stage to the first, by one deadline.
//!
//! The endpoint is unregistered while the connections to load balancers are closed, all at once.
//! Each later step has until a moment counted from the beginning of the shutdown, so that it can
//! use the time left over by an earlier one.
//!
//! A process that ends before it has served leaves the data path of an earlier one as it is.

use std::time::Duration;

use tokio::time::Instant;

use super::bring_up::Up;
use crate::{
    chain::causes,
    proxy::health::{Health, Part},
    registry::{Registration, Registry},
};

/// Timeout of unregistering, with its retries.
pub(super) const UNREGISTER: Duration = Duration::from_millis(2500);

/// Timeout of releases: an unavailable IPAM must not keep the process.
const RELEASES: Duration = Duration::from_secs(4);

/// Deadlines of the steps, counted from the beginning: 20 s for all. Kubernetes kills after 30 s.
mod by {
    use std::time::Duration;

    pub(super) const LINKS: Duration = Duration::from_secs(12);
    pub(super) const LISTEN: Duration = Duration::from_millis(13_500);
    pub(super) const LEASES: Duration = Duration::from_secs(17);
    pub(super) const SNAPSHOT: Duration = Duration::from_millis(17_500);
    pub(super) const KERNEL: Duration = Duration::from_secs(20);
}

impl Up {
    /// Takes down everything that is up. A step that hangs is abandoned at its deadline.
    pub(super) async fn down(mut self, health: &Health) {
        let begin = Instant::now();
        let served = self.endpoint.is_some();
        self.watches.clear();
        health.set(Part::Egress, false, "shutting down");
        self.discovery = None;
        let registration = self.registration.take();
        let mesh = self.mesh.take();
        tokio::join!(unregister(registration), async {
            if let Some(mesh) = mesh {
                mesh.close(begin + by::LINKS).await;
            }
        });
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.stop(begin + by::LISTEN).await;
        }
        if let Some(leases) = self.leases.take() {
            let latest = (begin + by::LEASES).min(Instant::now() + RELEASES);
            let left = leases.flush(latest).await;
            if let (Some(snapshot), Some(left)) = (self.snapshot.take(), left) {
                snapshot.finish(left, begin + by::SNAPSHOT).await;
            }
        }
        self.gateways = None;
        let Some(kernel) = self.kernel.take() else { return };
        if !served && kernel.status().borrow().adopts() {
            tracing::info!("what an earlier process left in the kernel stays: this one has not served");
        } else {
            kernel.stop(begin + by::KERNEL).await;
        }
    }
}

async fn unregister(registration: Option<Registration<impl Registry>>) {
    if let Some(registration) = registration
        && let Err(error) = registration.unregister().await
    {
        tracing::warn!(error = causes(&error), "not unregistered, the entry lapses by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{Kernel, Memory, Ours, Settings},
        proxy::in_memory::left_by_an_earlier_process,
        task::Tasks,
    };

    #[tokio::test(start_paused = true)]
    async fn a_process_that_has_not_served_leaves_the_data_path() {
        for earlier in [true, false] {
            let linux = if earlier { left_by_an_earlier_process().await } else { Memory::default() };
            let tasks = Tasks::default();
            let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
            kernel.settled().await;
            let before = linux.observed(&Ours::default());
            Up { kernel: Some(kernel), ..Up::default() }.down(&Health::default()).await;
            tasks.stop().await;
            let now = linux.observed(&Ours::default());
            assert_eq!(now == before, earlier, "{now:?}");
            assert_eq!(now.bridge(&Ours::default()).is_some(), earlier, "its own bridge is gone");
        }
    }
}
