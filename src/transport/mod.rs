// SPDX-License-Identifier: Apache-2.0
//! The edge: everything that is bytes, sockets, certificates or headers.

pub mod monitor;
pub mod registry;
pub mod server;
pub mod trace_context;
