// SPDX-License-Identifier: Apache-2.0

//! Keeps the bridge, addresses, routes and rules of one conduit as declared.
//!
//! Elements never change the kernel directly. They declare the desired state through a [`Kernel`]
//! handle, and one reconciler establishes it. All decisions are in [`plan()`], a pure function of
//! an observed state ([`Observed`]) and the desired state ([`Desired`]). A [`Backend`] reads the
//! observed state and makes the changes ([`Op`]) of the plan.
//!
//! ```text
//!  elements ── claims ──▶ Desired ──┐
//!                                   ├─▶ plan ─▶ [Op] ─▶ Backend ─▶ kernel
//!  kernel ──── dump ────▶ Observed ─┘                      │
//!     └─────── events: dump again ◀────────────────────────┘
//! ```
//!
//! # Objects in the kernel
//! - A bridge with the gateways as its addresses. The links that connections name become its ports.
//! - In table 1, a default route over all next hops, each with the bridge as device, and a
//!   blackhole of a higher metric.
//! - Rules that send packets from a VIP that enter by the bridge to table 1 ([`vip_rules`]).
//! - Leak stops: rules that drop all other packets that enter by the bridge, or by a link that is
//!   not yet or no longer its port, before they reach table main. They are added before and removed
//!   after everything else.
//!
//! # Announcements
//! When another link is behind an address, its new MAC address is announced; see [`announce`].
//!
//! # Objects of an earlier process
//! They are kept, whether this program or the Go proxy made them, until they have a successor; see
//! `adoption.rs`.
//!
//! # Known limits
//! - Another program's rule with a priority between 30003 and 32765 may still route packets that
//!   enter by the bridge.
//! - Ports whose own addresses are in the bridge's subnet: if an address of the bridge is added
//!   after theirs, replies of the pod itself may leave by a port. Forwarded packets are not
//!   affected, because next hops name their device.

mod adoption;
mod aggregate;
pub mod announce;
mod apply;
mod backend;
mod claims;
mod desired;
pub(crate) mod explain;
mod handle;
pub mod liveness;
mod memory;
mod netlink;
mod observed;
mod op;
mod peer;
mod plan;
mod reconcile;
mod remembered;
mod rule;
mod settings;
mod snapshot;
mod start;
mod status;
mod sysctls;
mod vip_list;
mod vips;
mod work;
mod world;

pub use self::{
    backend::{Backend, Refusal},
    desired::Desired,
    handle::{DoubtGuard, Kernel, NextHopGuard, PortGuard},
    memory::Memory,
    netlink::{
        Netlink,
        counters::{Counters, Port},
        dump::{Dump, DumpedNeighbour, DumpedRoute, DumpedRule, Interface, Statistics, dump},
    },
    observed::{BridgeSettings, Hop, Link, LinkKind, Observed, Route, RouteTarget},
    op::Op,
    peer::{Attachment, Ends, Peer, PeerId, Reach, Role, Withheld},
    plan::plan,
    rule::{Action, Rule},
    settings::{Mac, Ours, Settings},
    status::{Degraded, Failure, Faults, Status},
    sysctls::{WrongSysctl, wrong_sysctls},
    vips::vip_rules,
    work::Work,
    world::World,
};

pub(crate) use self::netlink::view::view;

#[cfg(test)]
pub(crate) mod tests;
