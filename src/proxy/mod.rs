// SPDX-License-Identifier: Apache-2.0
//! The product: configuration, health, logs, start and shutdown of the parts.

pub(crate) mod admin;
pub(crate) mod app;
pub mod capabilities;
pub mod chains;
pub mod commands;
pub mod config;
pub(crate) mod debug;
pub(crate) mod egress;
pub mod endpoint;
pub mod faults;
pub mod gateways;
pub mod health;
#[cfg(any(test, feature = "testing"))]
pub mod in_memory;
pub(crate) mod mesh;
pub mod metrics;
pub(crate) mod renumber;
pub mod services;
pub mod snapshot;
pub(crate) mod state;
pub mod vips;

use crate::app::{log, telemetry};
