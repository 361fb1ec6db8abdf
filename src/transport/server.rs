// SPDX-License-Identifier: Apache-2.0

//! Serve a chain to NSM: NetworkService, MonitorConnection and health.

pub mod bounds;
mod deadline;
mod trace;

pub use self::{
    deadline::{LONGEST, patience},
    trace::TraceContext,
};
