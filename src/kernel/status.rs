// SPDX-License-Identifier: Apache-2.0

//! Report what the kernel holds, as seen by the last dump, and what is wrong.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnet::IpNet;

use super::{Desired, Observed, Op, Refusal, Rule};
use crate::api::{Dual, Family, InterfaceName};

/// Most failures that a status lists.
const MAX_FAILURES: usize = 16;

/// State of the kernel as the last dump showed it, and what came of the last pass of the reconciler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The last pass had everything that was declared up to this revision.
    pub revision: u64,
    /// The bridge is there and up, and what enters by it without being from a VIP is dropped. Before this holds, no target must
    /// be answered.
    pub leak_stop: bool,
    /// Declared gateways that the bridge has.
    pub gateways: Dual<IpNet>,
    /// Next hops in the default route of each family, by way of the bridge. Installed and read back, not merely asked for.
    pub next_hops: Dual<BTreeSet<IpAddr>>,
    /// Claimed links that are ports.
    pub ports: BTreeSet<InterfaceName>,
    /// Claimed links that are not: they do not exist yet, or the kernel refused.
    pub pending: BTreeSet<InterfaceName>,
    /// Claimed links whose leak stop is in, in every family that the kernel has. None while the kernel cannot be read.
    pub leak_stopped: BTreeSet<InterfaceName>,
    /// All VIP rules are in place. False until the VIPs are known.
    pub vips: bool,
    /// Links that an earlier process left in the bridge and nobody claimed: taken out, not deleted.
    pub orphans: BTreeSet<InterfaceName>,
    /// Passes made.
    pub passes: u64,
    /// Changes that others made and the last pass took back.
    pub drift: usize,
    /// Changes that the reconciler has made since it started.
    pub writes: u64,
    /// What the last pass could not do, at most 16.
    pub failures: Vec<Failure>,
    /// Why the state is not, or not yet, what was declared.
    pub degraded: Vec<Degraded>,
    /// The reconciler has ended.
    pub stopped: bool,
}

/// A change that the kernel refused, or a dump that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was tried; `None` is the dump.
    pub op: Option<Op>,
    /// The answer.
    pub refusal: Refusal,
}

/// A reason why the state is not what was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degraded {
    /// The kernel cannot be read or written.
    Failing,
    /// A link that is not a bridge has the name of our bridge. Rename or remove it.
    NameTaken(InterfaceName),
    /// A claimed link is the bridge itself or a way out of the pod, and will not be made a port.
    NotAPort(InterfaceName),
    /// No address of the bridge has this next hop in its subnet, or it is one of them.
    Unreachable(IpAddr),
    /// An empty VIP list arrived; the VIPs before it stay for the grace time.
    VipsHeld,
    /// Something that an earlier process left is still kept.
    Adopted,
    /// The reconciler has stopped, and left the bridge and its leak stop because it still has ports.
    LeftForSuccessor,
}

impl Status {
    /// Whether a next hop is installed.
    pub fn has_next_hop(&self, address: IpAddr) -> bool {
        self.next_hops.get(Family::of(address)).is_some_and(|hops| hops.contains(&address))
    }

    /// Fill in what a dump shows of what was desired.
    pub(super) fn read(&mut self, observed: &Observed, desired: &Desired, gateways: &Dual<IpNet>) {
        let bridge = observed.bridge(&desired.ours);
        let index = bridge.map(|link| link.index);
        let rules: BTreeSet<_> = observed.rules.iter().collect();
        let stopped = |link: &InterfaceName| {
            let stop = |family| Rule::leak_stop(&desired.ours, family, link);
            observed.families().all(|family| rules.contains(&stop(family)))
        };
        self.leak_stop = bridge.is_some_and(|link| link.up) && stopped(&desired.ours.bridge);
        self.leak_stopped = desired.ports.iter().filter(|link| stopped(link)).cloned().collect();
        let there = |(_, net): &(Family, &IpNet)| observed.addresses.contains(net);
        self.gateways = gateways.iter().filter(there).map(|(family, net)| (family, *net)).collect();
        let hops = |family: Family| {
            let ours = observed.next_hops(family).filter(|hop| Some(hop.device) == index);
            (family, ours.map(|hop| hop.via).collect())
        };
        self.next_hops = Family::BOTH.into_iter().map(hops).collect();
        let port = |name: &&InterfaceName| {
            observed.link(name).is_some_and(|link| index.is_some() && link.controller == index)
        };
        let (ports, pending) = desired.ports.iter().partition::<Vec<_>, _>(port);
        self.ports = ports.into_iter().cloned().collect();
        self.pending = pending.into_iter().cloned().collect();
        self.vips =
            desired.vip_rules.as_ref().is_some_and(|vips| vips.iter().all(|rule| rules.contains(rule)));
    }

    /// List the first failures.
    pub(super) fn list(&mut self, failures: Vec<Failure>) {
        self.failures = failures;
        self.failures.truncate(MAX_FAILURES);
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.op {
            Some(op) => write!(f, "{op}: {}", self.refusal),
            None => write!(f, "dump: {}", self.refusal),
        }
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Degraded::Failing => f.write_str("the kernel cannot be read or written"),
            Degraded::NameTaken(name) => write!(f, "{name} exists and is not a bridge"),
            Degraded::NotAPort(name) => {
                write!(f, "{name} is a way out of the pod or the bridge itself, not made a port")
            }
            Degraded::Unreachable(hop) => write!(f, "next hop {hop} is in no subnet of the bridge"),
            Degraded::VipsHeld => {
                f.write_str("the VIP list is empty, the last one is kept for the grace time")
            }
            Degraded::Adopted => {
                f.write_str("what an earlier process left is kept until it is claimed or released")
            }
            Degraded::LeftForSuccessor => {
                f.write_str("stopped; the bridge still has ports and stays, without egress")
            }
        }
    }
}
