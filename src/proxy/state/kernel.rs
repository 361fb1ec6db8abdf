// SPDX-License-Identifier: Apache-2.0
//! The desired and the observed state of the kernel, and their difference.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    api::Family,
    kernel::{Attachment, Desired, Ours, Status, wrong_sysctls},
};

/// The state of the kernel, as of the last pass of the reconciler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Kernel {
    /// Name of the bridge.
    pub(crate) bridge: String,
    /// Its MAC address; absent if there is no bridge.
    pub(crate) mac: Option<String>,
    /// Whether packets that enter by the bridge are dropped unless they are from a VIP.
    pub(crate) leak_stop: bool,
    /// The state that is desired; absent until the first pass.
    pub(crate) desired: Option<Objects>,
    /// The state that was read.
    pub(crate) observed: Objects,
    /// The differences, one by one: links and next hops that are missing, and the changes that the
    /// last pass has left to make.
    pub(crate) difference: Vec<String>,
    /// Everything else that is not as it should be.
    pub(crate) degraded: Vec<String>,
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
    /// The first of the changes that reverted the last ones of other programs; empty if those are
    /// longer ago than 90 s.
    #[serde(default)]
    pub(crate) reverted: Vec<String>,
    /// Sysctls that are wrong at this moment: Linux reports no change of them.
    #[serde(default)]
    pub(crate) sysctls: Vec<Sysctl>,
    /// Whether the reconciler has ended.
    pub(crate) stopped: bool,
}

/// A sysctl whose value is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Sysctl {
    /// Its name with its value, the needed one, and the effect.
    pub(crate) fault: String,
    /// With this value, no packet of a family is forwarded.
    pub(crate) stops: bool,
}

/// The objects that carry traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Objects {
    /// Addresses of the bridge.
    pub(crate) gateways: Vec<String>,
    /// Ports of the bridge.
    pub(crate) ports: Vec<String>,
    /// Next hops of the default routes.
    pub(crate) next_hops: Vec<IpAddr>,
    /// Number of rules for VIPs.
    pub(crate) vip_rules: usize,
}

impl Kernel {
    /// The state of the last pass, with the sysctls of some families at this moment.
    pub(super) fn read(status: &Status, families: &[Family]) -> Self {
        let wrong = wrong_sysctls(families, &Ours::default().bridge);
        let sysctls = wrong.iter().map(|wrong| Sysctl { fault: wrong.to_string(), stops: wrong.stops });
        Self { sysctls: sysctls.collect(), ..Self::from(status) }
    }
}

impl From<&Status> for Kernel {
    fn from(status: &Status) -> Self {
        let desired = status.desired.as_deref();
        Self {
            bridge: desired.map_or_else(String::new, |desired| desired.ours.bridge.to_string()),
            mac: status.bridge.map(|mac| mac.to_string()),
            leak_stop: status.leak_stop,
            desired: desired.map(|desired| wanted(desired, status)),
            observed: observed(status),
            difference: difference(status),
            degraded: texts(&status.degraded),
            orphans: texts(&status.orphans),
            failures: texts(&status.failures),
            passes: status.passes,
            writes: status.writes,
            drift: status.drift,
            reverted: status.reverted.to_vec(),
            sysctls: Vec::new(),
            stopped: status.stopped,
        }
    }
}

fn texts(items: impl IntoIterator<Item: ToString>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

/// Next hops that are left out for a reason are desired too: they are declared.
fn wanted(desired: &Desired, status: &Status) -> Objects {
    let next_hops: BTreeSet<_> =
        desired.next_hops.iter().copied().chain(status.declared_next_hops()).collect();
    Objects {
        gateways: texts(desired.addresses.iter().flatten()),
        ports: texts(&desired.ports),
        next_hops: if desired.present { next_hops.into_iter().collect() } else { Vec::new() },
        vip_rules: desired.vip_rules.as_ref().map_or(0, |rules| rules.len()),
    }
}

fn observed(status: &Status) -> Objects {
    Objects {
        gateways: texts(&status.addresses),
        ports: texts(&status.ports),
        next_hops: status.next_hops.iter().flat_map(|(_, hops)| hops).copied().collect(),
        vip_rules: status.vip_rules,
    }
}

fn difference(status: &Status) -> Vec<String> {
    let mut found = Vec::new();
    for (id, peer) in status.peers.iter() {
        let unlike = peer.links.iter().filter(|(_, at)| **at != Attachment::Running);
        found.extend(unlike.map(|(link, at)| format!("{id}: link {link} {at}")));
        for (hop, verdict) in &peer.next_hops {
            match verdict {
                Err(why) => found.push(format!("{id}: next hop {hop} is left out: {why}")),
                Ok(()) if !status.has_next_hop(*hop) => {
                    found.push(format!("{id}: next hop {hop} is not installed"));
                }
                Ok(()) => {}
            }
        }
    }
    found.extend(status.left.iter().map(ToString::to_string));
    found
}
