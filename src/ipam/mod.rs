// SPDX-License-Identifier: Apache-2.0

//! Leases of the addresses that connections use, from Meridio's IPAM.
//!
//! A [`Lease`] is the address of a name in each family. [`Leases`] requests it from an
//! [`Allocator`] once, however many callers and refreshes there are, renews it, and gives it back
//! some time after the last holder is gone. The allocator is [`GrpcAllocator`] in production and
//! [`InMemory`], which has Meridio's [`Tree`] and can be made to fail, in tests and in the lab.

mod allocator;
mod call;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod contract;
mod entry;
mod faults;
mod grpc;
mod lease;
mod leases;
mod list;
mod memory;
mod restored;
mod state;
mod tag;
mod tree;
mod used;
mod worker;

#[cfg(test)]
mod tests;

pub(crate) use self::list::{List, Listed};
pub use self::{
    allocator::{AllocateError, Allocator, NO_MORE_PREFIX, Subnet},
    faults::{Calls, Fault, Faults},
    grpc::GrpcAllocator,
    lease::{Lease, LeaseError, MAX_NAME},
    leases::{BRIDGE, Leases, MAX_LEASES, PORTS, Settings, Status},
    memory::InMemory,
    restored::Record,
    tag::Tag,
    tree::{Pool, Tree, TreeError},
};
