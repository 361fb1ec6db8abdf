// SPDX-License-Identifier: Apache-2.0
//! The product: configuration, health, logs, and how the parts come up and go down.

pub mod app;
pub mod arguments;
pub mod capabilities;
pub mod chains;
pub mod config;
pub mod health;
pub mod log;
pub mod mesh;
pub mod telemetry;
pub mod vips;
