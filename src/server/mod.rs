// SPDX-License-Identifier: Apache-2.0

//! Serves a chain to NSM peers: NetworkService, MonitorConnection and health.
//!
//! [`Endpoint`] translates; [`serve()`] runs it, and any other services, over a
//! [`Listener`](crate::transport::Listener). Calls beyond the bounds of a connection are
//! refused with a status that names the thing, its size and the limit.

mod authority;
mod deadline;
mod endpoint;
mod health;
pub mod monitor;
mod serve;
mod trace;

pub use self::{
    deadline::call_timeout,
    endpoint::Endpoint,
    health::{NAMES, health},
    serve::{Stopping, serve},
    trace::TraceContext,
};

#[cfg(test)]
mod tests;
