// SPDX-License-Identifier: Apache-2.0
//! The services that the proxy calls, and their answers.

use std::{collections::BTreeMap, time::SystemTime};

use ipnet::IpNet;

use super::{Identity, Lease, Leases, Vips};
use crate::{
    chain::causes,
    ipam,
    proxy::{log::timestamp, vips},
    registry::{self, discovery::Discovered},
    transport::{Link, Svid, identity::IdentityState},
};

/// Maximum number of leases, and of VIPs, in a document.
const MAX_LISTED: usize = 256;

/// Whether a service that is called over a channel is up, and its error.
pub(super) fn channel(link: &Link) -> (bool, Option<String>) {
    (link.is_up(), link.error().map(str::to_owned))
}

/// The same for nsmgr, as far as the registration of the own endpoint shows it.
pub(super) fn registration(state: &registry::State) -> (bool, Option<String>) {
    (state.is_registered(), state.failure().map(|error| causes(&**error)))
}

/// The same for the registry, as far as the list of load balancers shows it.
pub(super) fn discovery(known: &Discovered) -> (bool, Option<String>) {
    (known.complete && known.failure.is_none(), known.failure.clone())
}

pub(super) fn identity(standing: &IdentityState) -> Identity {
    let svid = standing.svid.as_deref();
    let now = SystemTime::now();
    Identity {
        id: svid.map(|svid| svid.id().to_owned()),
        serial: svid.map(|svid| svid.serial().to_owned()),
        expires: svid.map(|svid| timestamp(svid.not_after())),
        expires_in_seconds: svid.map(|svid| svid.left(now).unwrap_or_default().as_secs()),
        received: svid.map(|svid| timestamp(svid.received())),
        bundles: svid.map(bundles).unwrap_or_default(),
        error: standing.error.as_ref().map(|error| causes(error)),
    }
}

fn bundles(svid: &Svid) -> BTreeMap<String, usize> {
    svid.bundles().map(|(domain, certificates)| (domain.to_owned(), certificates)).collect()
}

pub(super) fn leases(status: &ipam::Status, list: &ipam::List) -> Leases {
    Leases {
        wanted: status.wanted,
        held: status.held,
        releasing: status.releasing,
        unverified: status.unverified,
        moved: status.moved.iter().map(ToString::to_string).collect(),
        subnets: status.subnets.iter().map(|(net, count)| (net.to_string(), *count)).collect(),
        list: list.iter().take(MAX_LISTED).map(|(name, listed)| lease(name, listed)).collect(),
        failures: status.failures,
        error: status.last_error.as_ref().map(|error| causes(error)),
    }
}

fn lease(name: &str, listed: &ipam::Listed) -> Lease {
    let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect();
    Lease {
        name: name.to_owned(),
        state: listed.state.to_owned(),
        holders: listed.holders,
        addresses: texts(&listed.addresses),
        moved: texts(&listed.moved),
        unverified: listed.unverified,
    }
}

pub(super) fn vips(vips: &vips::Vips) -> Vips {
    let list = vips.list.as_deref().unwrap_or_default();
    Vips {
        known: vips.list.is_some(),
        count: list.len(),
        list: list.iter().take(MAX_LISTED).map(ToString::to_string).collect(),
        restored: vips.restored,
        refused: vips.refused,
    }
}
