// SPDX-License-Identifier: Apache-2.0
//! The product: configuration, health, logs, start and shutdown of the parts.

pub(crate) mod admin;
pub mod app;
pub mod capabilities;
pub mod chains;
pub mod commands;
pub mod config;
pub mod debug;
pub mod egress;
pub mod endpoint;
pub mod faults;
pub mod gateways;
pub mod health;
#[cfg(any(test, feature = "testing"))]
pub mod in_memory;
pub mod mesh;
pub mod metrics;
pub mod renumber;
pub mod services;
pub mod snapshot;
pub(crate) mod state;
pub mod vips;

use crate::app::{log, telemetry};
