// SPDX-License-Identifier: Apache-2.0

//! Counts the resources of a serving proxy.

use std::{fs, time::Duration};

use nsm::kernel::{Observed, Ours};
use tokio::time::sleep;

use crate::world::World;

/// The resources that a call might leave behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    connections: usize,
    streams: usize,
    /// Wanted, held, waiting for release.
    leases: [usize; 3],
    /// Names in the IPAM, once per family.
    addresses: usize,
    interface_names: usize,
    tasks: usize,
    descriptors: usize,
    kernel: Observed,
}

impl World {
    pub(crate) fn counts(&self) -> Counts {
        let leases = self.parts.leases.status();
        let leases = leases.borrow();
        let mut kernel = self.linux.observed(&Ours::default());
        kernel.routes.sort();
        kernel.rules.sort();
        Counts {
            connections: self.parts.connections.len(),
            streams: self.parts.connections.streams(),
            leases: [leases.wanted, leases.held, leases.releasing],
            addresses: self.ipam.tree().children().len(),
            interface_names: self.parts.names.len(),
            tasks: self.parts.tasks.len(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            kernel,
        }
    }

    /// Counts that have not changed for a quarter of a second.
    pub(crate) async fn settled(&self) -> Counts {
        let mut before = self.counts();
        let mut same = 0;
        while same < 10 {
            sleep(Duration::from_millis(25)).await;
            let now = self.counts();
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
        before
    }
}
