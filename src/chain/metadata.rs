// SPDX-License-Identifier: Apache-2.0

//! Gives each Request its own layer of per-connection state, kept only if the Request succeeds (NSM
//! `metadata`).
//!
//! The elements below use a [`Scope`](crate::chain::Scope) on which they may insert and take values
//! freely. If the Request succeeds, the values replace those of the connection; if it fails, is
//! cancelled or is dropped, the connection's values stay unchanged. A Close works on the
//! connection's own values. One exception: the values of a first Request that fails after the next
//! hop has [`Answered`] are kept, for the Close that the lane then owes it.
//!
//! # Order
//! Below `begin`, whose lane owns the state; above every element that keeps state.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::{pin_project, pinned_drop};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    api::Connection,
    chain::{
        Answered, Call, Error, Frame, Next, Order, Result, Row,
        begin::BeginLayer,
        element::{CallService, ResponseFuture},
    },
};

/// Layer that produces [`Metadata`].
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{*, begin::BeginLayer, metadata::MetadataLayer},
///     task::Tasks,
/// };
///
/// /// Counts the Requests of a connection that succeed, and refuses the third.
/// struct Twice;
///
/// impl Element for Twice {
///     const NAME: &'static str = "twice";
///     const ORDER: Order = Order::STATE; // needs `metadata` above it
///
///     async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
///         let before = request.context.scope.get::<u8>().map_or(0, |count| *count);
///         request.context.scope.insert(before + 1);
///         if before == 2 {
///             return Err(Reason::Refused("a third Request".into()).into());
///         }
///         next.request(request).await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let begin = BeginLayer::endpoint(tasks.clone());
/// let chain = Chain::new().with(begin).with(MetadataLayer).with(Twice).build()?;
/// let request = Request::new(Connection::named("a"));
/// assert!(chain.request(request.clone()).await.is_ok());
/// assert!(chain.request(request.clone()).await.is_ok());
/// assert!(chain.request(request.clone()).await.is_err());
/// assert!(chain.request(request).await.is_err(), "the count of a failed Request is not kept");
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MetadataLayer;

impl<S: CallService> Layer<S> for MetadataLayer {
    type Service = Metadata;

    fn layer(&self, inner: S) -> Metadata {
        Metadata { next: Next::of("end", inner) }
    }
}

impl MetadataLayer {
    /// Name of the row.
    pub const NAME: &'static str = "metadata";
}

impl Row for MetadataLayer {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn order(&self) -> Order {
        Order::ANY.needs(&[BeginLayer::NAME])
    }

    fn service(self, next: Next) -> impl CallService {
        self.layer(next)
    }
}

/// Service that commits the state of a Request only if it succeeds; see the module documentation.
#[derive(Clone)]
pub struct Metadata {
    next: Next,
}

impl Service<Call> for Metadata {
    type Response = Box<Connection>;
    type Error = Error;
    type Future = MetadataFuture;

    /// Always ready, as every row of a chain is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> MetadataFuture {
        match call {
            Call::Request(mut request) => {
                let first = Answered::of(&request.context.scope).is_none();
                let frame = request.context.scope.frame();
                request.context.scope = frame.scope();
                MetadataFuture { answer: self.next.request(request), frame: Some(frame), first }
            }
            Call::Close(close) => {
                MetadataFuture { answer: self.next.close(close), frame: None, first: false }
            }
        }
    }
}

/// Future of a call: commits the frame of a Request on success, and drops it otherwise unless a
/// Close is owed.
#[pin_project(PinnedDrop)]
pub struct MetadataFuture {
    #[pin]
    answer: ResponseFuture,
    frame: Option<Frame>,
    first: bool, // the next hop held nothing before
}

/// Ends the frame of a Request that failed or was dropped.
fn undo(frame: Frame, first: bool) {
    if first && Answered::of(&frame.scope()).is_some() {
        frame.commit();
    }
}

impl Future for MetadataFuture {
    type Output = Result<Box<Connection>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        match (&answer, this.frame.take()) {
            (Ok(_), Some(frame)) => frame.commit(),
            (Err(_), Some(frame)) => undo(frame, *this.first),
            (_, None) => {}
        }
        Poll::Ready(answer)
    }
}

#[pinned_drop]
impl PinnedDrop for MetadataFuture {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(frame) = this.frame.take() {
            undo(frame, *this.first);
        }
    }
}
