// SPDX-License-Identifier: Apache-2.0

//! Runs chains as programs: an endpoint that is served and registered, a client that keeps its
//! connections.
//!
//! - [`Endpoint`](crate::Endpoint) has the rows that every endpoint of NSM needs, and those of its
//!   author below them. It listens, registers its network services, and stops in order.
//! - [`Client`](crate::Client) has the rows that every client of NSM needs, and those of its author
//!   between them. Each [`Link`](crate::Link) is one connection, which is kept until it is closed.
//! - `App` (feature `otlp`) runs a program: configuration, identity, log, spans, signals, end. Like
//!   those two it is at the root of the crate.
//! - [`Server`] listens on a socket in a directory of its own.

mod changes;
pub(crate) mod client;
#[cfg(feature = "otlp")]
pub mod config;
pub(crate) mod endpoint;
#[cfg(feature = "otlp")]
pub mod log;
#[cfg(feature = "otlp")]
pub(crate) mod program;
mod server;
#[cfg(feature = "otlp")]
pub mod signals;
#[cfg(feature = "otlp")]
pub mod telemetry;

#[cfg(feature = "proxy")]
pub(crate) use self::changes::PAYLOAD;
pub use self::{
    client::ClientBuilder,
    endpoint::{EndpointBuilder, EndpointError},
    server::{ServeError, Server},
};
