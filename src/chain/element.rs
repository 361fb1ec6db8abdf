// SPDX-License-Identifier: Apache-2.0

//! The element: one behaviour of a chain, written as two async functions and used as a tower layer.
//!
//! Both hooks pass the call on by default, so an element only contains its own behaviour. Clean up
//! with guards stored in the [`Scope`](crate::chain::Scope), not with code after an await: that
//! code does not run when the call is cancelled.

use std::{
    any::Any,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::TryFutureExt;
use tower::{BoxError, ServiceExt};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

use crate::{
    api::Connection,
    chain::{Call, Close, Error, Order, Request, Result},
};

/// The future returned by [`Next`]. Each element costs one allocation.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Result<Box<Connection>>> + Send>>;

/// One behaviour of a chain.
///
/// ```
/// use nsm::{api::{Connection, Mechanism}, chain::*};
///
/// /// Refuses connections of a client without a mechanism.
/// struct NeedsMechanism;
///
/// impl Element for NeedsMechanism {
///     const NAME: &'static str = "needs_mechanism";
///     const ORDER: Order = Order::ANY.before(&["mechanism"]);
///
///     async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
///         if request.preferences.is_empty() {
///             return Err(Reason::Invalid("no mechanism (accepted: at least one)".into()).into());
///         }
///         next.request(request).await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), InvalidChain> {
/// let chain = Chain::new().with(NeedsMechanism).build()?;
/// let mut request = Request::new(Connection::named("a"));
/// let error = chain.request(request.clone()).await.unwrap_err();
/// assert_eq!(error.to_string(), "needs_mechanism: no mechanism (accepted: at least one)");
/// request.preferences.push(Mechanism::default());
/// assert!(chain.request(request).await.is_ok());
/// # Ok(()) }
/// ```
pub trait Element: Sized + Send + Sync + 'static {
    /// Name of the element in the printed chain, in spans and in errors.
    const NAME: &'static str;
    /// Elements that must come before or after this one.
    const ORDER: Order = Order::ANY;
    /// Whether the chain opens a span around this element. False for one that opens its own, with a
    /// parent from elsewhere.
    const SPAN: bool = true;

    /// Handles a Request.
    fn request(&self, request: Request, next: Next) -> impl Future<Output = Result<Box<Connection>>> + Send {
        async move { next.request(request).await }
    }

    /// Withdraws the effects of the connection that must end before a Close is passed on, and so
    /// before anything below can block: usually drops a guard of the scope. Called before
    /// [`close`](Self::close).
    fn withdraw(&self, close: &Close) {
        let _nothing_to_withdraw = close;
    }

    /// Handles a Close. Values taken from the scope are dropped even if the Close then fails.
    fn close(&self, close: Close, next: Next) -> impl Future<Output = Result<Box<Connection>>> + Send {
        async move { next.close(close).await }
    }

    /// Converts the element into a tower layer.
    fn layer(self) -> ElementLayer<Self> {
        ElementLayer(Arc::new(self))
    }
}

/// Bounds that every service in a chain must satisfy. Implemented for all services that do.
pub trait CallService:
    Service<Call, Response = Box<Connection>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> CallService for S where
    S: Service<Call, Response = Box<Connection>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The rest of the chain after an element: cheap to clone, can be called any number of times, and
/// is itself a tower service.
#[derive(Clone)]
pub struct Next(pub(super) Arc<dyn Erased>);

impl Next {
    /// Passes a Request to the rest of the chain.
    pub fn request(&self, request: Request) -> ResponseFuture {
        self.0.call(Call::Request(request))
    }

    /// Passes a Close to the rest of the chain.
    pub fn close(&self, close: Close) -> ResponseFuture {
        self.0.call(Call::Close(close))
    }

    /// Wrap a service under the given name. A `Next` is returned unchanged: it already has a name.
    pub(crate) fn of<S: CallService>(name: &'static str, service: S) -> Self {
        match (&service as &dyn Any).downcast_ref::<Next>() {
            Some(next) => next.clone(),
            None => Next(Arc::new(Stock { name, service })),
        }
    }
}

impl Service<Call> for Next {
    type Response = Box<Connection>;
    type Error = Error;
    type Future = ResponseFuture;

    /// Always ready: readiness is not propagated across elements.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> ResponseFuture {
        self.0.call(call)
    }
}

/// See [`Element::layer`].
pub struct ElementLayer<E>(Arc<E>);

impl<E: Element, S: CallService> Layer<S> for ElementLayer<E> {
    type Service = Next;

    fn layer(&self, inner: S) -> Next {
        Next(Arc::new(Node { element: Arc::clone(&self.0), next: Next::of("end", inner) }))
    }
}

pub(super) trait Erased: Send + Sync {
    fn call(&self, call: Call) -> ResponseFuture;
}

struct Node<E> {
    element: Arc<E>,
    next: Next,
}

impl<E: Element> Erased for Node<E> {
    fn call(&self, call: Call) -> ResponseFuture {
        let element = Arc::clone(&self.element);
        let next = self.next.clone();
        let work = async move {
            match call {
                Call::Request(request) => element.request(request, next).await,
                Call::Close(close) => {
                    element.withdraw(&close);
                    element.close(close, next).await
                }
            }
        };
        if E::SPAN { row(E::NAME, work) } else { Box::pin(work.map_err(|error| error.at(E::NAME))) }
    }
}

struct Stock<S> {
    name: &'static str,
    service: S,
}

impl<S: CallService> Erased for Stock<S> {
    fn call(&self, call: Call) -> ResponseFuture {
        let work = self.service.clone().oneshot(call);
        row(self.name, work.map_err(|e| Error::from(e.into())))
    }
}

/// Common work around every element: add its name to an error, and open a span if one is enabled.
fn row<F>(name: &'static str, work: F) -> ResponseFuture
where
    F: Future<Output = Result<Box<Connection>>> + Send + 'static,
{
    let work = work.map_err(move |error| error.at(name));
    let span = tracing::debug_span!("row", otel.name = name);
    if span.is_disabled() { Box::pin(work) } else { Box::pin(work.instrument(span)) }
}
