// SPDX-License-Identifier: Apache-2.0
//! Tests our wire against peers built on NSM's own Go sdk, with all of NSM's policies on.
//!
//! Run by `make interop`, which builds the peers first. Every identity comes from our own Workload
//! API server. The Go clients and endpoints have separate network namespaces, so that a descriptor
//! shows to whom it belongs.

mod app;
mod client_case;
mod control;
mod corrupt;
mod endpoint_case;
mod from_go;
mod keepalive;
mod mutations;
mod node;
mod ours;
mod programs;
mod registration;
mod registries;
mod registry_case;
mod to_go;
mod witness;
