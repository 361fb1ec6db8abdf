// SPDX-License-Identifier: Apache-2.0

//! Tests the whole part: the handle over the kernel in memory, and over a real one in a separate
//! namespace.

mod adopted;
mod adoption;
pub(super) mod agreement;
mod announce;
pub(super) mod balancer;
mod bulk;
mod checked;
mod contract;
mod counters;
mod dump;
mod events;
mod explain;
pub(super) mod far;
mod faults;
mod handle;
mod linux;
mod liveness;
mod meanwhile;
mod multicast;
pub(crate) mod netns;
mod over;
mod peers;
mod thread;
mod traps;
mod writes;
