// SPDX-License-Identifier: Apache-2.0
//! Run the whole system on one machine: a network of namespaces, and everything around the proxy.
//!
//! The lab stands where a cluster would: its own certificate authority and Workload API, so that every connection is mTLS with
//! an identity per pod, as it is with SPIRE.

pub mod addresses;
pub mod agent;
mod authority;
pub mod balance;
mod collector;
pub mod control_plane;
pub mod echo;
pub mod enter;
pub mod error;
pub mod fabric;
pub mod flows;
pub mod forwarder;
pub mod ground;
pub mod hop;
pub mod hosted;
pub mod ipam;
pub mod lb;
pub mod leak;
pub mod leftovers;
pub mod links;
pub mod netlink;
pub mod netns;
pub mod nsmgr;
pub mod nsp;
pub mod passthrough;
pub mod peers;
pub mod pod;
pub mod privileges;
pub mod program;
pub mod registration;
pub mod registry;
pub mod routes;
pub mod rules;
pub mod run;
pub mod stream;
pub mod target;
pub mod topology;
pub mod verdict;
mod workload;
pub mod world;

#[cfg(test)]
mod tests;

pub use self::{
    authority::{Authority, AuthorityError, Issued},
    collector::{Collector, Received},
    workload::Workload,
};
