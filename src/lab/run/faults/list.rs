// SPDX-License-Identifier: Apache-2.0
//! Every fault of the whole story, in order.

use std::time::Duration;

use super::{
    Act,
    Bound::{self, Any, Gaps, Nothing, Within},
    Fault, Reversal,
};
use crate::lab::world::{components::Component, foreign::Hand, mishaps::Mishap};

const SECOND: Bound = Within(Duration::from_secs(1));
/// Links that are made again one after the other.
const GAP: Bound = Gaps(Duration::from_secs(1));
/// A kernel event, and what follows in the same pass.
const AT_ONCE: Bound = Within(Duration::from_millis(100));
/// How long a component is away.
const OUTAGE: Duration = Duration::from_secs(10);
/// How long a load balancer is away.
const GONE: Duration = Duration::from_secs(5);
/// How long the next proxy takes to come.
const RESTART: Duration = Duration::from_secs(2);

/// The faults.
pub(in crate::lab::run) const FAULTS: &[Fault] = &[
    Fault {
        name: "lb-leaves",
        promise: "a load balancer that unregisters and returns costs nothing",
        act: Act::Lb(0, Mishap::Leaves),
        bounds: [Nothing, Nothing],
        reversal: Some(Reversal { after: RESTART, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "lb-silent",
        promise: "a load balancer that dies silently costs at most a second",
        act: Act::Lb(0, Mishap::Silent),
        bounds: [Nothing, SECOND],
        reversal: Some(Reversal { after: GONE, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "lb-hangs",
        promise: "a load balancer that hangs costs at most a second",
        act: Act::Lb(1, Mishap::Hangs),
        bounds: [Nothing, SECOND],
        reversal: Some(Reversal { after: GONE, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "lb-unlinked",
        promise: "a load balancer whose link goes is left at once",
        act: Act::Lb(1, Mishap::Unlinked),
        bounds: [Nothing, AT_ONCE],
        reversal: Some(Reversal { after: GONE, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "target-relinked",
        promise: "a target's replaced link costs at most a second",
        act: Act::Relink(0),
        bounds: [SECOND, SECOND],
        reversal: None,
    },
    Fault {
        name: "proxy-killed",
        promise: "a killed proxy costs nothing until its successor starts and then at most a second",
        act: Act::Restart { kill: true, without: None },
        bounds: [Nothing, Nothing],
        reversal: Some(Reversal { after: RESTART, bounds: [SECOND, SECOND] }),
    },
    Fault {
        name: "proxy-terminated",
        promise: "after a terminated proxy everything is whole within a second of its successor's start",
        act: Act::Restart { kill: false, without: None },
        bounds: [Any, Any],
        reversal: Some(Reversal { after: RESTART, bounds: [SECOND, SECOND] }),
    },
    Fault {
        name: "nsmgr-away",
        promise: "nsmgr's absence and return cost no link its traffic",
        act: Act::Away(Component::Nsmgr),
        bounds: [Nothing, Nothing],
        reversal: Some(Reversal { after: OUTAGE, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "forwarder-away",
        promise: "the forwarder's absence costs nothing and its return costs a flow at most a second",
        act: Act::Away(Component::Forwarder),
        bounds: [Nothing, Nothing],
        reversal: Some(Reversal { after: OUTAGE, bounds: [GAP, GAP] }),
    },
    Fault {
        name: "ipam-away",
        promise: "IPAM's absence and return cost nothing",
        act: Act::Away(Component::Ipam),
        bounds: [Nothing, Nothing],
        reversal: Some(Reversal { after: OUTAGE, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "nsp-away",
        promise: "NSP's absence and return cost nothing",
        act: Act::Away(Component::Nsp),
        bounds: [Nothing, Nothing],
        reversal: Some(Reversal { after: OUTAGE, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "workload-api-away",
        promise: "the Workload API's absence and return cost nothing",
        act: Act::Away(Component::WorkloadApi),
        bounds: [Nothing, Nothing],
        reversal: Some(Reversal { after: OUTAGE, bounds: [Nothing, Nothing] }),
    },
    Fault {
        name: "rules-deleted",
        promise: "rules that another program deletes are back within a second",
        act: Act::Foreign(Hand::DeleteRules),
        bounds: [SECOND, SECOND],
        reversal: None,
    },
    Fault {
        name: "ports-released",
        promise: "ports that another program releases are back within a second",
        act: Act::Foreign(Hand::ReleasePorts),
        bounds: [SECOND, SECOND],
        reversal: None,
    },
    Fault {
        name: "addresses-removed",
        promise: "addresses that another program removes from the bridge are back within a second",
        act: Act::Foreign(Hand::RemoveAddresses),
        bounds: [SECOND, SECOND],
        reversal: None,
    },
    Fault {
        name: "routes-flushed",
        promise: "routes that another program flushes are back within a second",
        act: Act::Foreign(Hand::FlushRoutes),
        bounds: [SECOND, SECOND],
        reversal: None,
    },
    Fault {
        name: "every-lb-gone",
        promise: "traffic is whole within a second of the return of every load balancer",
        act: Act::EveryLb,
        bounds: [Any, Any],
        reversal: Some(Reversal { after: RESTART, bounds: [SECOND, SECOND] }),
    },
];
