// SPDX-License-Identifier: Apache-2.0

//! Keep one conduit's bridge, addresses, routes and rules as declared.
//!
//! Elements never command the kernel: they declare through a [`Kernel`] handle what should be true, and one reconciler makes it
//! so. All decisions are in [`plan()`], a pure function of a picture of the kernel ([`Observed`]) and the desired state
//! ([`Desired`]); a [`Backend`] reads the one and makes the changes ([`Op`]) that the plan asks for.
//!
//! ```text
//!  elements ── claims ──▶ Desired ──┐
//!                                   ├─▶ plan ─▶ [Op] ─▶ Backend ─▶ kernel
//!  kernel ──── dump ────▶ Observed ─┘                      │
//!     └─────── events: dump again ◀────────────────────────┘
//! ```
//!
//! # What it makes
//! - A bridge with the gateways as its addresses; links that connections name become its ports.
//! - In table 1, a default route over all next hops, each with the bridge as device, and behind it a blackhole.
//! - Rules that send what enters by the bridge from a VIP to table 1 ([`vip_rules`]).
//! - Leak stops: what enters by the bridge, or by a link that is not yet or no longer its port, and is from no VIP, is dropped
//!   before table main. They are in before anything else, and go last.
//!
//! # Announcements
//! When another link is behind an address, its new MAC address is announced; see [`announce`].
//!
//! # What an earlier process left
//! It is kept, whether this program or the Go proxy made it, until its place is taken; see `adoption.rs`.
//!
//! # Known limits
//! - A rule of someone else between priority 30003 and 32765 may still route what enters by the bridge.
//! - Ports whose own addresses are in the bridge's subnet: if an address of the bridge is added after theirs, replies of the pod
//!   itself may leave by a port. Forwarded packets are not concerned, since next hops name their device.

mod adoption;
mod aggregate;
pub mod announce;
mod apply;
mod backend;
mod claims;
mod desired;
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
mod world;

pub use self::{
    backend::{Backend, Refusal},
    desired::Desired,
    handle::{DoubtGuard, Kernel, NextHopGuard, PortGuard},
    memory::Memory,
    netlink::{
        Netlink,
        dump::{Dump, DumpedNeighbour, DumpedRoute, DumpedRule, Interface, Statistics, dump},
    },
    observed::{BridgeSettings, Hop, Link, LinkKind, Observed, Route, Target},
    op::Op,
    peer::{Attachment, Ends, Peer, PeerId, Reach, Role, Withheld},
    plan::plan,
    rule::{Action, Rule},
    settings::{Mac, Ours, Settings},
    status::{Degraded, Failure, Faults, Status},
    sysctls::{WrongSysctl, wrong_sysctls},
    vips::vip_rules,
    world::World,
};

#[cfg(test)]
pub(crate) mod tests;
