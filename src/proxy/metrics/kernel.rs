// SPDX-License-Identifier: Apache-2.0
//! The state of the kernel and the work of the reconciler.

use std::{net::IpAddr, sync::Arc};

use opentelemetry::metrics::Meter;

use super::{
    metric::{Metric, Observer},
    of_part,
};
use crate::{
    api::Family,
    kernel::{Attachment, Degraded, Role, Status, Work},
    proxy::state::Handles,
};

const LINKS: Metric =
    Metric::gauge("meridio.proxy.links", "{link}", "Links of connections, by the role of their other end.")
        .by(&["role", "state"], 10);
const ORPHANS: Metric = Metric::gauge(
    "meridio.proxy.links.orphaned",
    "{link}",
    "Links that an earlier process left and that no connection claims.",
);
const NEXT_HOPS: Metric = Metric::gauge(
    "meridio.proxy.next_hops",
    "{next_hop}",
    "Next hops: desired by connections, installed in the kernel, withdrawn for any reason, dead by their probes.",
)
.by(&["family", "state"], 8);
const RULES: Metric = Metric::gauge(
    "meridio.proxy.vip_rules",
    "{rule}",
    "Rules of VIPs that are desired, and of those installed.",
)
.by(&["state"], 2);
const LEAK_STOP: Metric = Metric::gauge(
    "meridio.proxy.leak_stop",
    "{stop}",
    "Whether packets that enter by the bridge and are from no VIP are dropped.",
);
const DEGRADED: Metric = Metric::gauge(
    "meridio.proxy.kernel.degraded",
    "{reason}",
    "Reasons why the kernel differs from the declared state.",
)
.by(&["reason"], 11);
const FAILING: Metric = Metric::gauge(
    "meridio.proxy.reconcile.failing",
    "{operation}",
    "Operations of the last pass that the kernel refused, at most 16.",
);
const PASSES: Metric =
    Metric::counter("meridio.proxy.reconcile.passes", "{pass}", "Passes of the reconciler.");
const TIME: Metric =
    Metric::counter("meridio.proxy.reconcile.time", "s", "Time that passes of the reconciler took.");
const OPERATIONS: Metric = Metric::counter(
    "meridio.proxy.reconcile.operations",
    "{operation}",
    "Changes that the reconciler has made in the kernel.",
);
const DRIFT: Metric = Metric::counter(
    "meridio.proxy.reconcile.drift",
    "{change}",
    "Changes of other programs that the reconciler has reverted.",
);

const PROBES: Metric =
    Metric::counter("meridio.proxy.probes", "{probe}", "Looks for the answer of a load balancer's address.");
const RTT: Metric = Metric::histogram(
    "meridio.proxy.probes.rtt",
    &[0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
    "Time from a solicitation of a load balancer's address to its answer; up to 10 ms too long.",
);
const SILENCES: Metric = Metric::counter(
    "meridio.proxy.probes.silences",
    "{silence}",
    "Times that an address of a load balancer has stopped to answer.",
);
const ANNOUNCEMENTS: Metric = Metric::counter(
    "meridio.proxy.announcements",
    "{frame}",
    "Announcements of changed MAC addresses that were sent.",
);

pub(super) const METRICS: [&Metric; 15] = [
    &LINKS,
    &ORPHANS,
    &NEXT_HOPS,
    &RULES,
    &LEAK_STOP,
    &DEGRADED,
    &FAILING,
    &PASSES,
    &TIME,
    &OPERATIONS,
    &DRIFT,
    &PROBES,
    &RTT,
    &SILENCES,
    &ANNOUNCEMENTS,
];

const ROLES: [(Role, &str); 2] = [(Role::LoadBalancer, "load_balancer"), (Role::Target, "target")];
const ATTACHMENTS: [(Attachment, &str); 5] = [
    (Attachment::Missing, "missing"),
    (Attachment::Foreign, "foreign"),
    (Attachment::Detached, "detached"),
    (Attachment::Down, "down"),
    (Attachment::Running, "running"),
];
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "ipv4"), (Family::V6, "ipv6")];
const REASONS: [&str; 11] = [
    "failing",
    "sysctl",
    "name_taken",
    "unattached",
    "withheld",
    "none_answers",
    "not_probed",
    "not_announced",
    "vips_held",
    "adopted",
    "left_for_successor",
];

const fn reason(degraded: &Degraded) -> &'static str {
    match degraded {
        Degraded::Failing => "failing",
        Degraded::Sysctl(_) => "sysctl",
        Degraded::NameTaken(_) => "name_taken",
        Degraded::Unattached(..) => "unattached",
        Degraded::Withheld(..) => "withheld",
        Degraded::NoneAnswers(_) => "none_answers",
        Degraded::NotProbed(_) => "not_probed",
        Degraded::NotAnnounced(_) => "not_announced",
        Degraded::VipsHeld => "vips_held",
        Degraded::Adopted => "adopted",
        Degraded::LeftForSuccessor => "left_for_successor",
    }
}

fn links(status: &Status, role: Role, state: Attachment) -> u64 {
    let peers = status.peers.iter().filter(|(id, _)| id.role == role);
    count(peers.flat_map(|(_, peer)| peer.links.values()).filter(|link| **link == state))
}

/// Next hops of a family: desired, installed, withdrawn, dead.
fn next_hops(status: &Status, family: Family) -> [(&'static str, u64); 4] {
    let of = |address: &IpAddr| Family::of(*address) == family;
    let desired = status.declared_next_hops().into_iter().filter(of);
    let hops = status.peers.values().flat_map(|peer| &peer.next_hops).filter(|(address, _)| of(address));
    let silent = status.answers.iter().filter(|(address, answers)| of(address) && !**answers);
    [
        ("desired", count(desired)),
        ("installed", status.next_hops.get(family).map_or(0, |hops| count(hops.iter()))),
        ("withdrawn", count(hops.filter(|(_, verdict)| verdict.is_err()))),
        ("dead", count(silent)),
    ]
}

fn count(items: impl Iterator) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

/// Reads the value of a metric without labels.
type Value = fn(&Status) -> u64;
/// Reads a number of probes or announcements.
type Number = fn(&Work) -> u64;

/// Registers everything that is read from the reconciler's status.
pub(super) fn register(meter: &Meter, handles: &Arc<Handles>) {
    let single: [(&Metric, Value); 6] = [
        (&ORPHANS, |status| count(status.orphans.iter())),
        (&LEAK_STOP, |status| status.leak_stop.into()),
        (&FAILING, |status| count(status.failures.iter())),
        (&PASSES, |status| status.passes),
        (&OPERATIONS, |status| status.writes),
        (&DRIFT, |status| status.drifts),
    ];
    for (metric, value) in single {
        observe(metric, meter, handles, move |status, observer| observer.value(value(status)));
    }
    let work: [(&Metric, Number); 3] =
        [(&PROBES, Work::probes), (&SILENCES, Work::silences), (&ANNOUNCEMENTS, Work::announcements)];
    for (metric, value) in work {
        let of = Arc::clone(handles);
        metric.observe(meter, move |observer| {
            of.work.get().into_iter().for_each(|work| observer.value(value(work)))
        });
    }
    let of = Arc::clone(handles);
    TIME.observe_seconds(meter, move || Some(of.kernel.get()?.borrow().busy.as_secs_f64()));
    observe(&LINKS, meter, handles, |status, observer| {
        for ((role, name), (state, state_name)) in product(&ROLES, &ATTACHMENTS) {
            observer.with([name, state_name], links(status, role, state));
        }
    });
    observe(&NEXT_HOPS, meter, handles, |status, observer| {
        for (family, name) in FAMILIES {
            for (state, number) in next_hops(status, family) {
                observer.with([name, state], number);
            }
        }
    });
    observe(&RULES, meter, handles, |status, observer| {
        let rules = status.desired.as_ref().and_then(|desired| desired.vip_rules.as_ref());
        observer.with(["desired"], rules.map_or(0, |rules| rules.len() as u64));
        observer.with(["installed"], status.vip_rules as u64);
    });
    observe(&DEGRADED, meter, handles, |status, observer| {
        for name in REASONS {
            let found = status.degraded.iter().filter(|degraded| reason(degraded) == name);
            observer.with([name], count(found));
        }
    });
}

/// Records the times of answers from now on.
pub(super) fn probes(meter: &Meter, work: &Work) {
    let times = RTT.record(meter);
    work.observe(move |took| times.record(took.as_secs_f64(), &[]));
}

fn product<'a, A: Copy, B: Copy>(these: &'a [A], those: &'a [B]) -> impl Iterator<Item = (A, B)> {
    these.iter().flat_map(|this| those.iter().map(move |that| (*this, *that)))
}

/// Observes a metric of the status, once there is one.
fn observe(
    metric: &'static Metric,
    meter: &Meter,
    handles: &Arc<Handles>,
    read: impl Fn(&Status, &Observer<'_>) + Send + Sync + 'static,
) {
    let handles = Arc::clone(handles);
    metric.observe(meter, move |observer| of_part(&handles.kernel, |status| read(status, observer)));
}
