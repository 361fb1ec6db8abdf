// SPDX-License-Identifier: Apache-2.0
//! The document, without the parts that have a file of their own.
//!
//! Times are RFC 3339 in UTC; a field with another unit has the unit in its name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kernel, Mesh, Target};
use crate::proxy::{config::Setting, log::Event};

/// Version of the document. It changes when a field is removed or changes its meaning, not when one
/// is added.
pub(crate) const VERSION: u32 = 1;

/// The state of the proxy at one moment. A part that is not up yet is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    /// Version of the document.
    pub(crate) version: u32,
    /// The moment at which it was read.
    pub(crate) time: String,
    /// The process.
    pub(crate) process: Process,
    /// Progress of the start.
    pub(crate) start: Start,
    /// The conduit that the proxy serves.
    pub(crate) conduit: Conduit,
    /// Every variable, without secrets.
    pub(crate) config: Vec<Setting>,
    /// Warnings about accepted values of variables.
    pub(crate) warnings: Vec<String>,
    /// The health of each service name, aggregates first.
    pub(crate) health: Vec<Verdict>,
    /// The names of the rows of each chain, in the order of a Request.
    pub(crate) chains: Chains,
    /// The own identity.
    pub(crate) identity: Option<Identity>,
    /// The services that the proxy calls, by name.
    pub(crate) services: Services,
    /// The load balancers.
    pub(crate) mesh: Option<Mesh>,
    /// The targets that are connected.
    pub(crate) targets: Vec<Target>,
    /// The leases of addresses, by state.
    pub(crate) leases: Option<Leases>,
    /// The virtual addresses.
    pub(crate) vips: Option<Vips>,
    /// The desired and the observed state of the kernel.
    pub(crate) kernel: Option<Kernel>,
    /// The last lines of the log, from INFO up, at most 256; the last is the newest.
    pub(crate) events: Vec<Event>,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Process {
    /// Version of the program.
    pub(crate) version: String,
    /// Its process id, as it sees it itself.
    pub(crate) pid: u32,
    /// When it started.
    pub(crate) started: String,
    /// Seconds since then.
    pub(crate) uptime_seconds: u64,
}

/// Progress of the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Start {
    /// Whether the own endpoint has answered once.
    pub(crate) over: bool,
    /// The step in progress, with its last failure.
    pub(crate) step: Option<String>,
}

/// The conduit, and the names of this proxy in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Conduit {
    /// Name of the trench.
    pub(crate) trench: String,
    /// Name of the conduit.
    pub(crate) conduit: String,
    /// Name of the node; empty if it is unknown.
    pub(crate) node: String,
    /// Name of the pod and of the endpoint.
    pub(crate) proxy: String,
    /// Network service that targets request.
    pub(crate) service: String,
    /// Network service of the load balancers.
    pub(crate) load_balancers: String,
    /// Enabled families.
    pub(crate) families: Vec<String>,
    /// MTU of every connection, in bytes.
    pub(crate) mtu: u32,
}

/// The health of a service name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Verdict {
    /// Name that a probe queries.
    pub(crate) name: String,
    /// Whether it is SERVING.
    pub(crate) serving: bool,
    /// The reason.
    pub(crate) reason: String,
    /// Everything that is missing, whether it serves or not.
    pub(crate) degraded: Vec<String>,
}

/// The names of the rows of each chain, in the order of a Request.
pub(crate) type Chains = BTreeMap<String, Vec<String>>;

/// The own identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Identity {
    /// SPIFFE id of the newest SVID.
    pub(crate) id: Option<String>,
    /// Serial number of its certificate, in hexadecimal.
    pub(crate) serial: Option<String>,
    /// When its certificate expires.
    pub(crate) expires: Option<String>,
    /// Seconds until then; 0 if it has expired.
    pub(crate) expires_in_seconds: Option<u64>,
    /// When the SVID and its bundles were received.
    pub(crate) received: Option<String>,
    /// Trust domains of which a bundle is known, with the number of its certificates.
    pub(crate) bundles: BTreeMap<String, usize>,
    /// Why the next SVID is missing, if it is.
    pub(crate) error: Option<String>,
}

/// The services that the proxy calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Services {
    /// IPAM.
    pub(crate) ipam: Option<Service>,
    /// NSP.
    pub(crate) nsp: Option<Service>,
    /// nsmgr, by the registration of the own endpoint.
    pub(crate) nsmgr: Option<Service>,
    /// The registry, by the list of load balancers.
    pub(crate) registry: Option<Service>,
}

/// A service that the proxy calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Service {
    /// Its address.
    pub(crate) address: String,
    /// Whether it counts as reachable.
    pub(crate) up: bool,
    /// Since when, if that is known.
    pub(crate) since: Option<String>,
    /// Why its last call failed, if it did.
    pub(crate) error: Option<String>,
    /// The last error, if there was one; it outlasts its end.
    pub(crate) last_error: Option<String>,
    /// When it occurred.
    pub(crate) last_error_time: Option<String>,
}

/// The leases of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Leases {
    /// Leases that callers wait for.
    pub(crate) wanted: usize,
    /// Leases with holders.
    pub(crate) held: usize,
    /// Leases without holders that are not released yet.
    pub(crate) releasing: usize,
    /// Held leases of an earlier process that IPAM has not confirmed yet.
    pub(crate) unverified: usize,
    /// Names of held leases for which IPAM answered other addresses than those in use.
    pub(crate) moved: Vec<String>,
    /// Leases in each subnet, without those of the proxy itself.
    pub(crate) subnets: BTreeMap<String, usize>,
    /// The first of them by name, at most 256.
    #[serde(default)]
    pub(crate) list: Vec<Lease>,
    /// Calls that failed so far.
    pub(crate) failures: u64,
    /// Why the last call failed, if it did.
    pub(crate) error: Option<String>,
}

/// A lease of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Lease {
    /// Its name: that of a connection at its client with the end, `bridge` or `ports`.
    pub(crate) name: String,
    /// `wanted`, `held` or `releasing`.
    pub(crate) state: String,
    /// Number of its holders.
    pub(crate) holders: usize,
    /// Its addresses; empty while it is wanted, and once its release has begun.
    pub(crate) addresses: Vec<String>,
    /// Addresses that IPAM has answered in their place.
    pub(crate) moved: Vec<String>,
    /// It is that of an earlier process, and IPAM has not confirmed it yet.
    pub(crate) unverified: bool,
}

/// The virtual addresses of the trench.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Vips {
    /// Whether a list has been accepted.
    pub(crate) known: bool,
    /// Their number.
    pub(crate) count: usize,
    /// The first of them.
    pub(crate) list: Vec<String>,
    /// The list is that of an earlier process.
    pub(crate) restored: bool,
    /// Number of entries of the present list of NSP, if it was refused.
    pub(crate) refused: Option<usize>,
}
