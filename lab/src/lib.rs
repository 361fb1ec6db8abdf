// SPDX-License-Identifier: Apache-2.0
//! The whole system on one machine: a network of namespaces, and all components around the proxy.
//!
//! The lab takes the place of a cluster. It has its own certificate authority and Workload API, so
//! that every connection is mTLS with an identity per pod, as with SPIRE.
//!
//! Its modules, from low to high. A module imports from lower ones only.
//!
//! | module | contents |
//! | --- | --- |
//! | [`error`], [`topology`], [`eventually`] | used by all: errors; names and addresses; waiting |
//! | [`network`] | namespaces; the links, addresses, routes and rules in them |
//! | [`pods`] | pods: mounts, processes and their privileges, servers |
//! | [`identity`] | an authority, an agent that attests pods, the Workload API |
//! | [`control_plane`] | nsmgr, registry, forwarder, IPAM and NSP; or NSM's own nsmgr and registry |
//! | [`traffic`] | echoes, flows, streams, the leak counter |
//! | [`world`] | the components of a run: cables, load balancers, targets, the proxy |
//! | [`run`] | the steps of a run, their verdicts, and the count of leftovers |
//! | [`enter`], [`program`] | the program `lab`: its namespaces, arguments, exit status |

pub mod control_plane;
pub mod enter;
pub mod error;
pub mod eventually;
pub mod identity;
pub mod network;
pub mod pods;
pub mod program;
pub mod run;
mod svg;
pub mod topology;
pub mod traffic;
pub mod world;

#[cfg(test)]
mod tests;
