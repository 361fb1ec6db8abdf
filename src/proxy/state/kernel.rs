// SPDX-License-Identifier: Apache-2.0
//! The state of the kernel, and its difference from the declared one.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::kernel::Status;

/// The state of the kernel, as of the last pass of the reconciler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Kernel {
    /// MAC address of the bridge; absent if there is no bridge.
    pub(crate) bridge: Option<String>,
    /// Whether packets that enter by the bridge are dropped unless they are from a VIP.
    pub(crate) leak_stop: bool,
    /// Whether all VIP rules are in place.
    pub(crate) vip_rules: bool,
    /// Addresses of the bridge.
    pub(crate) gateways: Vec<String>,
    /// Ports of the bridge that connections declare.
    pub(crate) ports: Vec<String>,
    /// Next hops of the default routes.
    pub(crate) next_hops: Vec<IpAddr>,
    /// Every way in which the state differs from the declared one.
    pub(crate) difference: Vec<String>,
    /// Links that an earlier process left in the bridge and that no connection claims.
    pub(crate) orphans: Vec<String>,
    /// The changes and reads of the last pass that failed.
    pub(crate) failures: Vec<String>,
    /// Passes made.
    pub(crate) passes: u64,
    /// Changes made since the start.
    pub(crate) writes: u64,
    /// Changes of other programs that the last pass reverted.
    pub(crate) drift: usize,
    /// Whether the reconciler has ended.
    pub(crate) stopped: bool,
}

impl From<&Status> for Kernel {
    fn from(status: &Status) -> Self {
        Self {
            bridge: status.bridge.map(|mac| mac.to_string()),
            leak_stop: status.leak_stop,
            vip_rules: status.vips,
            gateways: status.gateways.iter().map(|(_, net)| net.to_string()).collect(),
            ports: status.ports.iter().map(ToString::to_string).collect(),
            next_hops: status.next_hops.iter().flat_map(|(_, hops)| hops).copied().collect(),
            difference: status.degraded.iter().map(ToString::to_string).collect(),
            orphans: status.orphans.iter().map(ToString::to_string).collect(),
            failures: status.failures.iter().map(ToString::to_string).collect(),
            passes: status.passes,
            writes: status.writes,
            drift: status.drift,
            stopped: status.stopped,
        }
    }
}
