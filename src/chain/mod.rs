// SPDX-License-Identifier: Apache-2.0

//! Chains of elements that handle NSM connections, built on tower.
//!
//! A [`Call`] is a Request or a Close of one connection. It enters at the top of the chain; each
//! [`Element`] may change it, passes it to [`Next`], and may change the answer. [`begin`] runs the
//! calls of one connection id one after the other, so an element never handles two calls of the
//! same connection at once. [`metadata`] keeps the values that elements store for a connection only
//! if the Request succeeds.
//!
//! ```
//! use nsm::{api::Connection, chain::{begin::BeginLayer, metadata::MetadataLayer, *}, task::Tasks};
//!
//! /// Sets the MTU of both ends, in bytes.
//! struct Mtu(u32);
//!
//! impl Element for Mtu {
//!     const NAME: &'static str = "mtu";
//!
//!     async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
//!         request.connection.context_mut().mtu = self.0;
//!         next.request(request).await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let tasks = Tasks::default();
//! let chain = Chain::new()
//!     .with(BeginLayer::client(tasks.clone()))
//!     .with(MetadataLayer)
//!     .layer("timeout", tower::timeout::TimeoutLayer::new(std::time::Duration::from_secs(5)))
//!     .with(Mtu(1500));
//! assert_eq!(chain.to_string(), "begin → metadata → timeout → mtu");
//! let chain = chain.build()?;
//! let answer = chain.request(Request::new(Connection::named("a"))).await?;
//! assert_eq!(answer.context.unwrap_or_default().mtu, 1500);
//! # tasks.stop().await; Ok(()) }
//! ```

pub mod begin;
#[cfg(feature = "transport")]
pub(crate) mod bounds;
pub(crate) mod builder;
pub(crate) mod call;
mod causes;
pub(crate) mod element;
pub(crate) mod error;
pub mod laws;
pub mod metadata;
pub mod observe;
pub(crate) mod order;
mod owner;
pub(crate) mod row;
pub(crate) mod scope;
pub(crate) mod tail;

pub use self::{
    begin::{Answered, Events, Outcome},
    builder::Chain,
    call::{Call, CallContext, Close, DEFAULT_TIMEOUT, EventKind, Origin, Request},
    causes::causes,
    element::{CallService, Element, ElementLayer, Next, ResponseFuture},
    error::{Error, Reason, Result},
    order::{InvalidChain, Order},
    owner::Owner,
    row::{End, Named, Row},
    scope::{Frame, Scope},
    tail::Tail,
};
