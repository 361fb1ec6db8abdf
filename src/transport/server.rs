// SPDX-License-Identifier: Apache-2.0

//! Serve a chain to NSM: NetworkService, MonitorConnection and health.
//!
//! [`Endpoint`] translates; [`serve()`] runs it, and whatever other services are to be had, over a
//! [`Listener`](super::listen::Listener). Calls beyond the [`bounds`] are refused with a status that names the thing, its size and
//! the limit.

mod authority;
pub mod bounds;
mod deadline;
mod endpoint;
mod health;
mod serve;
mod trace;

pub use self::{
    deadline::{LONGEST, patience},
    endpoint::Endpoint,
    health::{NAMES, health},
    serve::{HEADERS, STREAMS, Stopping, serve},
    trace::TraceContext,
};

#[cfg(test)]
mod tests;
