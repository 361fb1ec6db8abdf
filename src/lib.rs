// SPDX-License-Identifier: Apache-2.0

//! Meridio's proxy, and its framework: chains of tower layers that handle NSM connections.
//!
//! ```text
//!  target ──NSM──▶ nsmgr ──▶ forwarder ──▶ [ endpoint chain ] ──┐
//!                                                               ├─▶ desired state ──▶ reconciler ──▶ kernel
//!  LB ◀── forwarder ◀── nsmgr ◀──NSM────── [ client chain ] ────┘
//! ```
//!
//! A chain is a list of rows: [elements] of this crate, elements of your own, stock tower layers.
//! It is built once, prints its rows, and handles the calls of many connections:
//!
//! ```
//! use nsm::{
//!     api::{Connection, Mechanism, MechanismKind},
//!     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
//!     elements::{mechanism::{self, Names}, mtu::Mtu, update_path::UpdatePath},
//!     task::Tasks,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tasks = Tasks::default(); // owns the lanes of all connections
//! let chain = Chain::new()
//!     .with(UpdatePath::new("endpoint-1"))
//!     .with(BeginLayer::endpoint(tasks.clone())) // one call of a connection at a time
//!     .with(MetadataLayer) // state per connection, undone when a call fails
//!     .with(mechanism::Endpoint::new(Names::new(|_| false))) // agrees on KERNEL, and names the link
//!     .with(Mtu(1500));
//! assert_eq!(chain.to_string(), "update_path → begin → metadata → mechanism → mtu");
//! let chain = chain.build()?;
//!
//! let kernel = vec![Mechanism::local(MechanismKind::Kernel)];
//! let request = Request { preferences: kernel, ..Request::new(Connection::named("connection-1")) };
//! let answer = chain.request(request).await?;
//! assert_eq!(answer.mechanism.map(|agreed| agreed.r#type).as_deref(), Some("KERNEL"));
//! tasks.stop().await;
//! # Ok(()) }
//! ```
//!
//! The modules, from the lowest to the highest. A module uses only lower ones, and [`api`], which
//! has the messages:
//!
//! - [`task`]: tasks that are owned and stopped, pauses between attempts.
//! - [`chain`]: calls, elements and the builder; the state of a connection, which is undone when a
//!   call fails; the laws that every element keeps.
//! - [`transport`]: the edge: descriptors beside bytes, SPIFFE identities, tokens, dialling and
//!   listening.
//! - [`kernel`] and [`ipam`]: the ports by which elements declare links, next hops and VIPs, and
//!   lease addresses.
//! - [`server`] and [`registry`]: a chain as an NSM server, with the events of its connections;
//!   endpoints that are registered, and those of others.
//! - [`elements`]: the layers, a file or folder for each.
//! - [`chains`]: the standard chains of an endpoint and of a client, with a slot.
//! - [`app`]: an endpoint that is served and registered, a client that keeps its connections.
//! - [`proxy`]: the product, with its two chains in [`proxy::chains`].
//! - `testing` (feature `testing`): identities and a receiver of spans for tests of chains and
//!   elements.
//!
//! # Features
//! Without features the crate has [`api`], [`task`], [`chain`] and the elements that need no
//! connection to a peer.
//!
//! - `transport` (default): [`transport`], [`server`], [`registry`], [`app`], and the elements that
//!   need them.
//! - `otlp` (default): the trace context of calls, the export of spans by OTLP, and `App`. Implies
//!   `transport`.
//! - `proxy` (default): [`kernel`], [`ipam`], [`proxy`], and the elements that need them. Implies
//!   `otlp`.
//! - `testing`: the test kit. Implies `transport`.

#![cfg_attr(docsrs, feature(doc_cfg))]

// Their types are in signatures of this crate.
#[doc(no_inline)]
pub use {http, ipnet, prost, tonic};

pub mod api;
#[cfg(feature = "transport")]
pub mod app;
pub mod chain;
#[cfg(feature = "transport")]
pub mod chains;
pub mod elements;
#[cfg(feature = "proxy")]
pub mod ipam;
#[cfg(feature = "proxy")]
pub mod kernel;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "transport")]
pub mod registry;
#[cfg(feature = "transport")]
pub mod server;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "transport")]
pub mod transport;

#[cfg(feature = "otlp")]
pub use self::app::program::App;
#[cfg(feature = "transport")]
pub use self::app::{
    client::{Client, Link, LinkState},
    endpoint::Endpoint,
};

/// The Rust of the guides, compiled and run by `cargo test --doc`.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../ARCHITECTURE.md")]
    struct Architecture;
    #[doc = include_str!("../docs/concepts/chain.md")]
    struct Chain;
    #[doc = include_str!("../docs/concepts/state.md")]
    struct State;
    #[doc = include_str!("../docs/concepts/kernel.md")]
    struct Kernel;
    #[doc = include_str!("../docs/write-an-element.md")]
    struct Element;
    #[doc = include_str!("../docs/write-an-endpoint.md")]
    struct Endpoint;
    #[doc = include_str!("../docs/coming-from-go.md")]
    struct Go;
    #[doc = include_str!("../docs/writing-tests.md")]
    struct Tests;
}
