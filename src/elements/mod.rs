// SPDX-License-Identifier: Apache-2.0

//! One behaviour of a chain per file: the list of files says what the proxy does.
//!
//! Where client and endpoint differ, the file has an element for each, and the name says which: `ipam::Client`, `ipam::Endpoint`.
//! `begin` and `metadata` are part of the machine, see [`chain`](crate::chain). An element never uses another element: what they
//! share is in the connection, in the call's extensions, or in the scope as a type of a lower floor.

pub mod authorize;
pub mod bridge;
pub mod connect;
pub mod egress;
pub mod heal;
pub mod ipam;
pub mod mechanism;
pub mod monitor;
pub mod mtu;
pub mod recv_fd;
pub mod refresh;
pub mod send_fd;
pub mod source_route;
pub mod timeout;
pub mod trace;
pub mod trim_path;
pub mod update_path;
pub mod update_token;
