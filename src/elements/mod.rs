// SPDX-License-Identifier: Apache-2.0

//! The elements of chains, one behaviour per file or folder.
//!
//! Where client and endpoint differ, the file has an element for each, and the name shows which:
//! `ipam::Client`, `ipam::Endpoint`. `begin` and `metadata` are part of the machine, see
//! [`chain`](crate::chain). An element never uses another element: they share state in the
//! connection, in the call's extensions, or in the scope as a type of a lower floor.

pub mod answers;
#[cfg(feature = "transport")]
pub mod authorize;
#[cfg(feature = "proxy")]
pub mod bridge;
#[cfg(feature = "transport")]
pub mod connect;
pub mod dns_context;
pub mod egress;
#[cfg(feature = "transport")]
pub mod heal;
#[cfg(feature = "proxy")]
pub mod ipam;
pub mod mechanism;
#[cfg(feature = "transport")]
pub mod monitor;
pub mod mtu;
pub mod on_idle;
pub mod point_to_point;
pub mod policy_route;
#[cfg(feature = "transport")]
pub mod recv_fd;
pub mod refresh;
#[cfg(feature = "transport")]
pub mod send_fd;
#[cfg(feature = "proxy")]
pub mod source_route;
pub mod timeout;
#[cfg(feature = "transport")]
pub mod trace;
pub mod trim_path;
pub mod update_path;
#[cfg(feature = "transport")]
pub mod update_token;
