// SPDX-License-Identifier: Apache-2.0
//! The process: health, services, identity, resources, version.

use std::{
    fs,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use opentelemetry::metrics::Meter;
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::{
    metric::{Metric, Observer},
    of_part,
};
use crate::{
    proxy::{
        health::{Health, LIVENESS, Part, READINESS},
        state::Handles,
        telemetry::Losses,
    },
    registry,
    transport::Link,
};

const HEALTH: Metric = Metric::gauge(
    "meridio.proxy.health",
    "{service}",
    "Whether a service of the health socket is SERVING, by its name.",
)
.by(&["service"], 6);
const DEGRADED: Metric =
    Metric::gauge("meridio.proxy.degraded", "{fault}", "Faults of a part that serves nevertheless.")
        .by(&["service"], 4);
const SERVICES: Metric = Metric::gauge(
    "meridio.proxy.service.up",
    "{service}",
    "Whether a service that the proxy calls can be used: nsmgr if the endpoint is registered, the registry if its list is complete.",
)
.by(&["service"], 4);
const SVID: Metric = Metric::gauge(
    "meridio.proxy.svid.expiry.timestamp",
    "s",
    "When the SVID expires, as Unix time; absent without a valid SVID.",
);
const SPANS: Metric = Metric::counter("meridio.proxy.spans.dropped", "{span}", "Spans whose export failed.");
const EXPORTS: Metric = Metric::counter(
    "meridio.proxy.exports.failures",
    "{export}",
    "Exports by OTLP that failed, of traces or of metrics.",
)
.by(&["signal"], 2);
const BUILD: Metric =
    Metric::gauge("meridio.proxy.build_info", "", "Always 1, with the version of the proxy.")
        .by(&["version"], 1);
const CPU: Metric = Metric::counter("process.cpu", "s", "Processor time of the process.");
const RESIDENT: Metric = Metric::gauge("process.resident_memory", "By", "Memory of the process in RAM.");
const VIRTUAL: Metric = Metric::gauge("process.virtual_memory", "By", "Address space of the process.");
const THREADS: Metric = Metric::gauge("process.threads", "{thread}", "Threads of the process.");
const DESCRIPTORS: Metric =
    Metric::gauge("process.open_fds", "{descriptor}", "Open descriptors of the process.");
const MOST_DESCRIPTORS: Metric =
    Metric::gauge("process.max_fds", "{descriptor}", "Descriptors that the process may have.");
const START: Metric = Metric::gauge("process.start_time", "s", "When the process started, as Unix time.");

pub(super) const METRICS: [&Metric; 14] = [
    &HEALTH,
    &DEGRADED,
    &SERVICES,
    &SVID,
    &SPANS,
    &EXPORTS,
    &BUILD,
    &CPU,
    &RESIDENT,
    &VIRTUAL,
    &THREADS,
    &DESCRIPTORS,
    &MOST_DESCRIPTORS,
    &START,
];

/// Registers the health, the services that the proxy calls, its identity and its exports; `metrics`
/// counts those of metrics.
pub(super) fn register(meter: &Meter, health: &Health, handles: &Arc<Handles>, metrics: Option<Arc<Losses>>) {
    let of = health.clone();
    HEALTH.observe(meter, move |observer| {
        for name in [READINESS, LIVENESS].into_iter().chain(Part::ALL.map(Part::name)) {
            let serving = of.of(name).is_some_and(|verdict| verdict.serving);
            observer.with([name], serving.into());
        }
    });
    let board = health.subscribe();
    DEGRADED.observe(meter, move |observer| {
        for part in Part::ALL {
            let faults = board.borrow().part(part).degraded.len();
            observer.with([part.name()], faults as u64);
        }
    });
    let of = Arc::clone(handles);
    SERVICES.observe(meter, move |observer| services(&of, observer));
    let of = Arc::clone(handles);
    SVID.observe_seconds(meter, move || Some(unix_time(of.identity.get()?.current()?.not_after())));
    let of = Arc::clone(handles);
    SPANS.observe(meter, move |observer| {
        if let Some(losses) = of.losses.get() {
            observer.value(losses.spans());
        }
    });
    let of = Arc::clone(handles);
    EXPORTS.observe(meter, move |observer| {
        for (signal, losses) in [("traces", of.losses.get()), ("metrics", metrics.as_ref())] {
            if let Some(losses) = losses {
                observer.with([signal], losses.exports());
            }
        }
    });
    BUILD.observe(meter, |observer| observer.with([env!("CARGO_PKG_VERSION")], 1));
    resources(meter);
}

fn services(handles: &Handles, observer: &Observer<'_>) {
    let up = |name, up: bool| observer.with([name], up.into());
    of_part(&handles.ipam, |link: &Link| up("ipam", link.is_up()));
    of_part(&handles.nsp, |link: &Link| up("nsp", link.is_up()));
    of_part(&handles.registration, |state: &registry::State| up("nsmgr", state.is_registered()));
    of_part(&handles.discovery, |known| up("registry", known.complete && known.failure.is_none()));
}

fn resources(meter: &Meter) {
    CPU.observe_seconds(meter, || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    });
    let started = unix_time(SystemTime::now());
    START.observe_seconds(meter, move || Some(started));
    let status: [(&Metric, &str, u64); 3] =
        [(&RESIDENT, "VmRSS:", 1024), (&VIRTUAL, "VmSize:", 1024), (&THREADS, "Threads:", 1)];
    for (metric, field, unit) in status {
        metric.observe(meter, move |observer| {
            let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
            if let Some(value) = value_of(&text, field) {
                observer.value(value * unit);
            }
        });
    }
    DESCRIPTORS.observe(meter, |observer| {
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            observer.value(open.count() as u64);
        }
    });
    MOST_DESCRIPTORS.observe(meter, |observer| {
        if let Some(most) = getrlimit(Resource::Nofile).current {
            observer.value(most);
        }
    });
}

/// The number of a line such as `VmRSS:   1234 kB`.
fn value_of(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

fn unix_time(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
