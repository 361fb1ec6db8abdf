// SPDX-License-Identifier: Apache-2.0

//! Runs chains as programs: an endpoint that is served and registered, a client that keeps its
//! connections.
//!
//! - [`Endpoint`] has the rows that every endpoint of NSM needs, and those of its author below
//!   them. It listens, registers its network services, and stops in order.
//! - [`Client`] has the rows that every client of NSM needs, and those of its author between them.
//!   Each [`Link`] is one connection, which is kept until it is closed.
//! - [`Server`] listens on a socket in a directory of its own.

mod changes;
pub mod client;
#[cfg(feature = "proxy")]
pub mod config;
pub mod endpoint;
#[cfg(feature = "proxy")]
pub mod log;
pub mod server;
#[cfg(feature = "proxy")]
pub mod signals;
#[cfg(feature = "proxy")]
pub mod telemetry;

#[cfg(feature = "proxy")]
pub(crate) use self::changes::PAYLOAD;
pub use self::{
    client::{Client, Link, LinkState},
    endpoint::{Endpoint, EndpointError},
    server::{ServeError, Server},
};
