// SPDX-License-Identifier: Apache-2.0
//! The faults of the whole story, in order.

use std::time::Duration;

use super::{
    Act,
    Bound::{self, Any, Gaps, Nothing, Within},
    Fault, Stage,
};
use crate::world::{
    components::Component,
    foreign::Hand,
    mishaps::{END, Mishap},
};

const SECOND: Bound = Within(Duration::from_secs(1));
/// Links that are made again one after the other.
const GAP: Bound = Gaps(Duration::from_secs(1));
/// A kernel event, and its consequences in the same pass.
const AT_ONCE: Bound = Within(Duration::from_millis(100));
/// How long a component is away.
const OUTAGE: Duration = Duration::from_secs(10);
/// How long a load balancer is away.
const GONE: Duration = Duration::from_secs(5);
/// How long a proxy may take to end while some load balancers hang.
const SOON: Duration = Duration::from_secs(10);
/// Time until the next proxy starts.
const RESTART: Duration = Duration::from_secs(2);
/// How long a new proxy waits for missing services: longer than any of its grace times.
const LONG: Duration = Duration::from_secs(65);

const NOTHING: [Bound; 2] = [Nothing, Nothing];

/// The faults.
pub(in crate::run) const FAULTS: &[Fault] = &[
    Fault {
        name: "lb-leaves",
        promise: "a load balancer that unregisters and returns costs nothing",
        stages: &[
            Stage { name: "gone", acts: &[Act::LoseLb(0, Mishap::Leaves)], bounds: NOTHING, lasts: RESTART },
            back(&[Act::ReturnLb(0)], NOTHING),
        ],
        restored: None,
    },
    Fault {
        name: "lb-silent",
        promise: "a load balancer that dies silently costs at most a second",
        stages: &[
            Stage {
                name: "gone",
                acts: &[Act::LoseLb(0, Mishap::Silent)],
                bounds: [Nothing, SECOND],
                lasts: GONE,
            },
            back(&[Act::ReturnLb(0)], [SECOND, SECOND]),
        ],
        restored: None,
    },
    Fault {
        name: "lb-hangs",
        promise: "a load balancer that hangs costs at most a second",
        stages: &[
            Stage {
                name: "gone",
                acts: &[Act::LoseLb(1, Mishap::Hangs)],
                bounds: [Nothing, SECOND],
                lasts: GONE,
            },
            back(&[Act::ReturnLb(1)], [SECOND, SECOND]),
        ],
        restored: None,
    },
    Fault {
        name: "lb-unlinked",
        promise: "a load balancer whose link goes is left at once",
        stages: &[
            Stage {
                name: "gone",
                acts: &[Act::LoseLb(1, Mishap::Unlinked)],
                bounds: [Nothing, AT_ONCE],
                lasts: GONE,
            },
            back(&[Act::ReturnLb(1)], [SECOND, SECOND]),
        ],
        restored: None,
    },
    Fault {
        name: "every-lb-gone",
        promise: "traffic is whole within a second of the return of every load balancer",
        stages: &[
            Stage { name: "gone", acts: &[Act::LoseEveryLb], bounds: [Any, Any], lasts: RESTART },
            back(&[Act::ReturnEveryLb], [SECOND, SECOND]),
        ],
        restored: None,
    },
    Fault {
        name: "target-relinked",
        promise: "a target's replaced link costs at most a second",
        stages: &[once(&[Act::Relink(0)])],
        restored: None,
    },
    Fault {
        name: "proxy-killed",
        promise: "a killed proxy costs nothing until its successor starts and then at most a second",
        stages: &[
            Stage { name: "gone", acts: &[Act::KillProxy], bounds: NOTHING, lasts: RESTART },
            back(&[Act::StartProxy], [SECOND, SECOND]),
        ],
        restored: None,
    },
    Fault {
        name: "proxy-terminated",
        promise: "after a terminated proxy traffic is whole within a second of its successor's start",
        stages: &[
            Stage { name: "gone", acts: &[Act::EndProxy(END)], bounds: [Any, Any], lasts: RESTART },
            back(&[Act::StartProxy], [SECOND, SECOND]),
        ],
        restored: None,
    },
    Fault {
        name: "proxy-terminated-beside-hung",
        promise: "a proxy ends within ten seconds though a load balancer hangs",
        stages: &[
            Stage {
                name: "gone",
                acts: &[Act::LoseLb(1, Mishap::Hangs), Act::EndProxy(SOON)],
                bounds: [Any, Any],
                lasts: RESTART,
            },
            back(&[Act::StartProxy, Act::ReturnLb(1)], [Any, Any]),
        ],
        restored: None,
    },
    Fault {
        name: "proxy-terminated-amid-hung",
        promise: "a proxy ends within 25 seconds though everything around it hangs",
        stages: &[
            Stage {
                name: "gone",
                acts: &[
                    Act::LoseLb(0, Mishap::Hangs),
                    Act::LoseLb(1, Mishap::Hangs),
                    Act::Hang(Component::Ipam, true),
                    Act::Hang(Component::Nsp, true),
                    Act::Hang(Component::Forwarder, true),
                    Act::Hang(Component::Nsmgr, true),
                    Act::Hang(Component::WorkloadApi, true),
                    Act::EndProxy(END),
                ],
                bounds: [Any, Any],
                lasts: RESTART,
            },
            back(
                &[
                    Act::Hang(Component::WorkloadApi, false),
                    Act::Hang(Component::Nsmgr, false),
                    Act::Hang(Component::Forwarder, false),
                    Act::Hang(Component::Ipam, false),
                    Act::Hang(Component::Nsp, false),
                    Act::StartProxy,
                    Act::ReturnLb(0),
                    Act::ReturnLb(1),
                ],
                [Any, Any],
            ),
        ],
        restored: None,
    },
    Fault {
        name: "restart-without-spire",
        promise: "a proxy that starts while its identity is away leaves the data path as it is",
        stages: &[
            Stage {
                name: "gone",
                acts: &[Act::KillProxy, Act::Kill(Component::WorkloadApi)],
                bounds: NOTHING,
                lasts: RESTART,
            },
            Stage { name: "waiting", acts: &[Act::StartProxy], bounds: NOTHING, lasts: LONG },
            back(&[Act::Start(Component::WorkloadApi)], [SECOND, SECOND]),
        ],
        restored: None,
    },
    Fault {
        name: "restart-without-ipam",
        promise: "a proxy that starts while IPAM and NSP are away serves within a second and goes on",
        stages: &[
            Stage {
                name: "gone",
                acts: &[Act::KillProxy, Act::Kill(Component::Ipam), Act::Kill(Component::Nsp)],
                bounds: NOTHING,
                lasts: RESTART,
            },
            Stage { name: "without them", acts: &[Act::StartProxy], bounds: [SECOND, SECOND], lasts: LONG },
            back(&[Act::Start(Component::Ipam), Act::Start(Component::Nsp)], NOTHING),
        ],
        restored: None,
    },
    Fault {
        name: "nsmgr-away",
        promise: "nsmgr's absence and return cost no link its traffic",
        stages: &[away(&[Act::Kill(Component::Nsmgr)]), back(&[Act::Start(Component::Nsmgr)], NOTHING)],
        restored: None,
    },
    Fault {
        name: "forwarder-away",
        promise: "the forwarder's absence costs nothing and its return costs a flow at most a second",
        stages: &[
            away(&[Act::Kill(Component::Forwarder)]),
            back(&[Act::Start(Component::Forwarder)], [GAP, GAP]),
        ],
        restored: None,
    },
    Fault {
        name: "ipam-away",
        promise: "IPAM's absence and return cost nothing",
        stages: &[away(&[Act::Kill(Component::Ipam)]), back(&[Act::Start(Component::Ipam)], NOTHING)],
        restored: None,
    },
    Fault {
        name: "nsp-away",
        promise: "NSP's absence and return cost nothing",
        stages: &[away(&[Act::Kill(Component::Nsp)]), back(&[Act::Start(Component::Nsp)], NOTHING)],
        restored: None,
    },
    Fault {
        name: "workload-api-away",
        promise: "the Workload API's absence and return cost nothing",
        stages: &[
            away(&[Act::Kill(Component::WorkloadApi)]),
            back(&[Act::Start(Component::WorkloadApi)], NOTHING),
        ],
        restored: None,
    },
    Fault {
        name: "rules-deleted",
        promise: "rules that another program deletes are back within a second",
        stages: &[once(&[Act::Meddle(Hand::DeleteRules)])],
        restored: Some(Duration::from_secs(1)),
    },
    Fault {
        name: "ports-released",
        promise: "ports that another program releases are back within a second",
        stages: &[once(&[Act::Meddle(Hand::ReleasePorts)])],
        restored: Some(Duration::from_secs(1)),
    },
    Fault {
        name: "addresses-removed",
        promise: "addresses that another program removes from the bridge are back within a second",
        stages: &[once(&[Act::Meddle(Hand::RemoveAddresses)])],
        restored: Some(Duration::from_secs(1)),
    },
    Fault {
        name: "routes-flushed",
        promise: "routes that another program flushes are back within a second",
        stages: &[once(&[Act::Meddle(Hand::FlushRoutes)])],
        restored: Some(Duration::from_secs(1)),
    },
    Fault {
        name: "renumbered",
        promise: "every connection moves to another subnet of IPAM and a flow loses at most a second",
        stages: &[Stage { name: "", acts: &[Act::Renumber], bounds: [GAP, Nothing], lasts: Duration::ZERO }],
        restored: None,
    },
];

/// A component is away, and nothing is lost.
const fn away(acts: &'static [Act]) -> Stage {
    Stage { name: "gone", acts, bounds: NOTHING, lasts: OUTAGE }
}

/// The missing component is back.
const fn back(acts: &'static [Act], bounds: [Bound; 2]) -> Stage {
    Stage { name: "back", acts, bounds, lasts: Duration::ZERO }
}

/// A fault that is over at once, and costs at most a second.
const fn once(acts: &'static [Act]) -> Stage {
    Stage { name: "", acts, bounds: [SECOND, SECOND], lasts: Duration::ZERO }
}
