// SPDX-License-Identifier: Apache-2.0
//! Keeps a snapshot of the leases, gateways and VIPs in a file, to start from when their services
//! are unavailable.
//!
//! The lease `bridge` has the gateways. `format` encodes a snapshot into bytes, `file` stores them
//! in a private file, and a [`Writer`] writes each change.
//!
//! The services have precedence: restored values are used until they answer, and then replaced by
//! their answers. A snapshot that is damaged, of another version, conduit or node, or older than
//! half an hour is set aside and named in one line of the log; the start then waits for the
//! services, as it does without a snapshot.

mod file;
mod format;
mod report;
mod writer;

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

pub use self::{
    file::File,
    format::Refusal,
    report::report,
    writer::{Sources, Store, Writer},
};
use crate::{
    api::Dual,
    ipam::{self, Record},
};

/// Maximum age of a snapshot. IPAM collects a lease that was not renewed for 40 minutes, and the
/// leases in a snapshot were renewed in the last 10 minutes before it was written.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// The state of a conduit on a node that an earlier process had from IPAM and NSP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Leases, sorted by name.
    pub leases: Vec<Record>,
    /// VIPs, sorted; `None` if no list was ever accepted.
    pub vips: Option<Arc<[IpNet]>>,
}

impl Snapshot {
    /// The addresses of the bridge.
    pub fn gateways(&self) -> Dual<IpNet> {
        let bridge = self.leases.iter().find(|record| &*record.child == ipam::BRIDGE);
        bridge.map_or(Dual::NONE, |record| record.addresses)
    }
}
