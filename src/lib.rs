// SPDX-License-Identifier: Apache-2.0

//! Meridio's proxy, and the framework it is built on: chains of tower layers that handle NSM connections.

pub mod api;
pub mod chain;
pub mod elements;
pub mod ipam;
pub mod kernel;
pub mod lab;
pub mod proxy;
pub mod transport;
