// SPDX-License-Identifier: Apache-2.0
//! Run the whole system on one machine: a network of namespaces, and everything around the proxy.
//!
//! The lab stands where a cluster would: its own certificate authority and Workload API, so that every connection is mTLS with
//! an identity per pod, as it is with SPIRE.
//!
//! It has rooms, here from low to high. A room imports from lower ones only.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`error`], [`topology`] | what every room speaks of: what could not be done, and who has which name and address |
//! | [`network`] | namespaces; the links, addresses, routes and rules in them |
//! | [`pods`] | pods: mounts, processes and their privileges, servers |
//! | [`identity`] | an authority, an agent that attests pods, the Workload API |
//! | [`control_plane`] | nsmgr, registry, forwarder, IPAM and NSP; or NSM's own nsmgr and registry |
//! | [`traffic`] | echoes, flows, streams, the leak counter |
//! | [`world`] | all that a run needs, built and running: cables, load balancers, targets, the proxy |
//! | [`run`] | the steps of a run, their verdicts, and what is left at the end |
//! | [`enter`], [`program`] | the program `lab`: namespaces of its own, arguments, exit status |

pub mod control_plane;
pub mod enter;
pub mod error;
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
