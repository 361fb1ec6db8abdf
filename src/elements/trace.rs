// SPDX-License-Identifier: Apache-2.0

//! Opens a span for every call, as a child of the caller's (NSM `trace`).
//!
//! The parent is the W3C trace context that came with the call; without one it is the current span.
//! Calls that an element starts later (refresh, heal, timeout) are roots of their own, linked to
//! the last Request, because they happen minutes after it. If the span is not recorded, this costs
//! one look-up.
//!
//! # Order
//! First: the spans of all other rows are inside this one.

use std::sync::Arc;

use tracing::{Instrument, Span};

use crate::{
    api::Connection,
    chain::{CallContext, Close, Element, Next, Order, Request, Result, begin::event::OnEvent},
    server::TraceContext,
    transport::trace_context,
};

/// Element that opens the span of a call: fields `id`, `network_service` and `method`.
///
/// ```
/// use nsm::{api::Connection, chain::{Chain, Request}, elements::{mtu::Mtu, trace::Trace}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = Chain::new().with(Trace).with(Mtu(1500)).build()?;
/// chain.request(Request::new(Connection::named("a"))).await?; // in a span of `tracing`
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

fn open(method: &'static str, connection: &Connection, context: &CallContext) -> Span {
    let span = tracing::info_span!(
        "call",
        otel.name = method,
        method,
        id = connection.id,
        network_service = connection.network_service
    );
    if let Some(caller) = context.extensions.get::<TraceContext>() {
        trace_context::set_parent(&span, &caller.traceparent, &caller.tracestate);
    }
    span
}

/// Links the spans of events to this call.
fn link_events(context: &mut CallContext, span: &Span) {
    if let Some((parent, state)) = trace_context::current(span) {
        let link = OnEvent(Arc::new(move |root: &Span| trace_context::link(root, &parent, &state)));
        context.extensions.insert(link);
    }
}

impl Element for Trace {
    const NAME: &'static str = "trace";
    const ORDER: Order = Order::ANY.before(&["update_path", "begin"]);
    const SPAN: bool = false;

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let span = open("Request", &request.connection, &request.context);
        link_events(&mut request.context, &span);
        let call = span.in_scope(|| next.request(request)); // the next row's span is created here
        call.instrument(span).await
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        let span = open("Close", &close.connection, &close.context);
        let call = span.in_scope(|| next.close(close));
        call.instrument(span).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::laws;

    // The contents of spans are tested in a separate process: tests/trace.rs.
    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| Trace).await.unwrap();
    }
}
