// SPDX-License-Identifier: Apache-2.0

//! Test kit for chains and elements: identities, peers, prepared calls, a receiver of spans.
//! Feature `testing`.
//!
//! - [`Authority`] and [`Workload`]: a certificate authority and SPIRE's Workload API.
//! - [`Given`], [`path`], [`kernel`], [`caller`], [`Counted`]: prepare the calls of an element
//!   under test.
//! - [`serve`], [`Below`]: a peer over mTLS.
//! - [`Collector`]: an OTLP receiver that keeps the spans it receives.
//! - `Lines` (feature `otlp`): the lines of a log.
//! - [`Stranger`]: a TLS client that does not prove its identity.
//! - [`accept`]: accept loops for servers without mTLS.
//! - [`eventually`]: waits for a condition.
#![allow(clippy::unwrap_used)] // a test that lacks what it needs fails

#[cfg(test)]
pub(crate) mod abrupt;
pub mod accept;
mod authority;
#[cfg(test)]
pub(crate) mod bad_collector;
mod collector;
#[cfg(test)]
pub(crate) mod echo;

mod given;
#[cfg(feature = "otlp")]
mod lines;
mod stranger;
mod wait;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod witness;
mod workload;

#[cfg(feature = "otlp")]
pub use self::lines::Lines;
pub use self::{
    authority::{Authority, Issued, moment, uri},
    collector::{Collector, Received, Series},
    given::{Below, Counted, Given, Served, caller, kernel, path, serve, serve_monitored, serve_routes},
    stranger::Stranger,
    wait::{eventually, soon},
    workload::Workload,
};
