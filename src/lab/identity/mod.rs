// SPDX-License-Identifier: Apache-2.0
//! What SPIRE is in a cluster: an authority, an agent on the node, and a Workload API for each pod.

pub mod agent;
mod authority;
mod workload;

pub use self::{
    authority::{Authority, AuthorityError, Issued},
    workload::Workload,
};
