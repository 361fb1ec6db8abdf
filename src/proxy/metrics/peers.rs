// SPDX-License-Identifier: Apache-2.0
//! Load balancers, targets, leases and VIPs.

use std::sync::Arc;

use opentelemetry::metrics::Meter;

use super::{
    metric::{Metric, Observer},
    of_part,
};
use crate::{
    api::Family,
    ipam::{self, AllocateError},
    proxy::{
        mesh::{self, LinkState},
        state::Handles,
        vips::Vips,
    },
};

const LOAD_BALANCERS: Metric = Metric::gauge(
    "meridio.proxy.load_balancers",
    "{load_balancer}",
    "Load balancers in the registry, by the state of their connection.",
)
.by(&["state"], 4);
const TARGETS: Metric = Metric::gauge("meridio.proxy.targets", "{connection}", "Connections of targets.");
const MONITORS: Metric =
    Metric::gauge("meridio.proxy.monitors", "{stream}", "Streams that watch the connections of targets.");
const LEASES: Metric =
    Metric::gauge("meridio.proxy.leases", "{lease}", "Leases of addresses, by state.").by(&["state"], 5);
const EXHAUSTED: Metric = Metric::gauge(
    "meridio.proxy.leases.exhausted",
    "{pool}",
    "Whether the last call to IPAM failed because a pool of addresses is used up.",
);
const FAILURES: Metric =
    Metric::counter("meridio.proxy.leases.failures", "{call}", "Calls to IPAM that failed.");
const VIPS: Metric =
    Metric::gauge("meridio.proxy.vips", "{vip}", "VIPs of the last accepted list.").by(&["family"], 2);
const REFUSED: Metric = Metric::gauge(
    "meridio.proxy.vips.refused",
    "{vip}",
    "Entries of the present list of VIPs, if it is refused because it is too long.",
);

pub(super) const METRICS: [&Metric; 8] =
    [&LOAD_BALANCERS, &TARGETS, &MONITORS, &LEASES, &EXHAUSTED, &FAILURES, &VIPS, &REFUSED];

/// Registers everything that is read from the parts between the proxy and its peers.
pub(super) fn register(meter: &Meter, handles: &Arc<Handles>) {
    let of = Arc::clone(handles);
    LOAD_BALANCERS.observe(meter, move |observer| {
        if let Some((_, status)) = of.mesh.get() {
            load_balancers(&status.borrow(), observer);
        }
    });
    let of = Arc::clone(handles);
    TARGETS.observe(meter, move |observer| {
        if let Some(connections) = of.connections.get() {
            observer.value(connections.len() as u64);
        }
    });
    let of = Arc::clone(handles);
    MONITORS.observe(meter, move |observer| {
        if let Some(connections) = of.connections.get() {
            observer.value(connections.streams() as u64);
        }
    });
    leases(meter, handles);
    let of = Arc::clone(handles);
    VIPS.observe(meter, move |observer| of_part(&of.vips, |now| vips(now, observer)));
    let of = Arc::clone(handles);
    REFUSED.observe(meter, move |observer| {
        of_part(&of.vips, |now| observer.value(now.refused.unwrap_or(0) as u64));
    });
}

fn load_balancers(status: &mesh::Status, observer: &Observer<'_>) {
    let count = |of: fn(&LinkState) -> bool| status.links.values().filter(|state| of(state)).count() as u64;
    let states = [
        ("requesting", count(|state| matches!(state, LinkState::Requesting { error: None }))),
        ("failing", count(|state| matches!(state, LinkState::Requesting { error: Some(_) }))),
        ("connected", count(|state| *state == LinkState::Connected)),
        ("closing", count(|state| *state == LinkState::Closing)),
    ];
    for (state, number) in states {
        observer.with([state], number);
    }
}

fn leases(meter: &Meter, handles: &Arc<Handles>) {
    let of = Arc::clone(handles);
    LEASES.observe(meter, move |observer| {
        of_part(&of.leases, |status: &ipam::Status| {
            let states = [
                ("wanted", status.wanted),
                ("held", status.held),
                ("releasing", status.releasing),
                ("unverified", status.unverified),
                ("moved", status.moved.len()),
            ];
            for (state, number) in states {
                observer.with([state], number as u64);
            }
        });
    });
    let of = Arc::clone(handles);
    EXHAUSTED.observe(meter, move |observer| {
        of_part(&of.leases, |status| {
            let exhausted = matches!(status.last_error, Some(AllocateError::Exhausted(_)));
            observer.value(exhausted.into());
        });
    });
    let of = Arc::clone(handles);
    FAILURES.observe(meter, move |observer| of_part(&of.leases, |status| observer.value(status.failures)));
}

fn vips(vips: &Vips, observer: &Observer<'_>) {
    let list = vips.list.as_deref().unwrap_or_default();
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        let number = list.iter().filter(|vip| Family::of(vip.addr()) == family).count();
        observer.with([name], number as u64);
    }
}
