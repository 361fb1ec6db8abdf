// SPDX-License-Identifier: Apache-2.0

//! Tests of the whole: the handle over the kernel in memory, and over a real one in a namespace of its own.

mod adopted;
mod adoption;
pub(super) mod agreement;
mod announce;
pub(super) mod balancer;
mod bulk;
mod checked;
mod contract;
mod dump;
mod events;
pub(super) mod far;
mod faults;
mod handle;
mod linux;
mod liveness;
mod meanwhile;
mod multicast;
pub(super) mod netns;
mod over;
mod peers;
mod thread;
mod traps;
pub(crate) mod witness;
mod writes;
