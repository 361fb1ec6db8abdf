// SPDX-License-Identifier: Apache-2.0

//! The elements of the proxy's chains, one behaviour per file.
//!
//! Where client and endpoint differ, the file has an element for each, and the name shows which:
//! `ipam::Client`, `ipam::Endpoint`. `begin` and `metadata` are part of the machine, see
//! [`chain`](crate::chain). An element never uses another element: they share state in the
//! connection, in the call's extensions, or in the scope as a type of a lower floor.

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
