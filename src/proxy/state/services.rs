// SPDX-License-Identifier: Apache-2.0
//! The services that the proxy calls, and what it has from them.

use std::time::SystemTime;

use super::{Identity, Leases, Service, Vips};
use crate::{
    chain::causes,
    ipam,
    proxy::{log::timestamp, vips},
    registry::{self, discovery::Known},
    transport::{Link, identity::Standing},
};

/// Maximum number of VIPs in a document.
const MAX_LISTED: usize = 256;

/// A service that is called over a channel.
pub(super) fn channel(address: String, link: &Link) -> Service {
    let last_error = link.error().map(str::to_owned);
    Service { address, up: link.is_up(), since: None, last_error, last_error_time: None }
}

/// nsmgr, as far as the registration of the own endpoint shows it.
pub(super) fn registration(address: String, state: &registry::State) -> Service {
    let last_error = state.failure().map(|error| causes(&**error));
    Service { address, up: state.is_registered(), since: None, last_error, last_error_time: None }
}

/// The registry, as far as the list of load balancers shows it.
pub(super) fn discovery(address: String, known: &Known) -> Service {
    let up = known.complete && known.failure.is_none();
    Service { address, up, since: None, last_error: known.failure.clone(), last_error_time: None }
}

pub(super) fn identity(standing: &Standing) -> Identity {
    let svid = standing.svid.as_deref();
    let left = |expires: SystemTime| expires.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
    Identity {
        id: svid.map(|svid| svid.id().to_owned()),
        serial: svid.map(|svid| svid.serial().to_owned()),
        expires: svid.map(|svid| timestamp(svid.not_after())),
        expires_in_seconds: svid.map(|svid| left(svid.not_after())),
        error: standing.trouble.as_ref().map(|trouble| causes(trouble)),
        ..Identity::default()
    }
}

pub(super) fn leases(status: &ipam::Status) -> Leases {
    Leases {
        wanted: status.wanted,
        held: status.held,
        releasing: status.releasing,
        unverified: status.unverified,
        moved: status.moved.iter().map(ToString::to_string).collect(),
        subnets: status.subnets.iter().map(|(net, count)| (net.to_string(), *count)).collect(),
        failures: status.failures,
        error: status.last_error.as_ref().map(|error| causes(error)),
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
