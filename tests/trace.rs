// SPDX-License-Identifier: Apache-2.0

//! Tests the contents of a call's spans, in a process of its own: tracing caches for all threads
//! whether a callsite is enabled.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nsm::{
    api::Connection,
    chain::{
        Call, Chain, Close, Element, Error, EventKind, Next, Request, Result, begin::BeginLayer,
        metadata::MetadataLayer,
    },
    elements::trace::Trace,
    server::TraceContext,
    task::Tasks,
    transport::trace_context,
};
use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::Span;
use tracing_subscriber::prelude::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Records the spans that have ended.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Spans {
    fn named(&self, name: &str) -> SpanData {
        let spans = self.0.lock().unwrap();
        let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        spans
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("no {name} in {names:?}"))
            .clone()
    }
}

/// Starts one event after the first Request.
struct Fire(Mutex<bool>);
impl Element for Fire {
    const NAME: &'static str = "fire";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let events = request.context.events.clone();
        let answer = next.request(request).await?;
        if std::mem::take(&mut *self.0.lock().unwrap()) {
            drop(events.request(EventKind::Refresh));
        }
        Ok(answer)
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_continues_its_callers_trace_and_events_link_to_it() {
    let spans = Spans::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _on = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let tasks = Tasks::default();
    let next_hop = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&next_hop);
    let end = tower::service_fn(move |call: Call| {
        told.lock().unwrap().push(trace_context::current(&Span::current()).unwrap().0);
        async { Ok::<_, Error>(call.into_connection()) }
    });
    let chain = Chain::new()
        .with(Trace)
        .with(BeginLayer::client(tasks.clone()))
        .with(MetadataLayer)
        .with(Fire(Mutex::new(true)));
    let chain = chain.end(end).build().unwrap();

    let mut connection = Connection::named("connection-1");
    connection.network_service = "load-balancer".into();
    let mut request = Request::new(connection);
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    request.context.extensions.insert(TraceContext { traceparent, tracestate: String::new() });
    chain.request(request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    chain.close(Close::new(Connection::named("connection-1"))).await.unwrap();
    tasks.stop().await;

    let call = spans.named("Request");
    assert_eq!(call.span_context.trace_id(), TraceId::from_hex(TRACE).unwrap());
    assert_eq!(call.parent_span_id, SpanId::from_hex(PARENT).unwrap());
    let says =
        |key: &str| call.attributes.iter().find(|kv| kv.key.as_str() == key).map(|kv| kv.value.to_string());
    assert_eq!(says("id").as_deref(), Some("connection-1"));
    assert_eq!(says("network_service").as_deref(), Some("load-balancer"));
    assert_eq!(says("method").as_deref(), Some("Request"));

    let event = spans.named("event");
    assert_ne!(event.span_context.trace_id(), call.span_context.trace_id(), "a root of its own");
    let links: Vec<_> = event.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(links, [call.span_context.span_id()]);

    let close = spans.named("Close");
    assert_eq!(close.parent_span_id, SpanId::INVALID, "without a caller's context it starts a trace");
    let traces: Vec<_> = next_hop.lock().unwrap().iter().map(|told| told[3..35].to_owned()).collect();
    let expected = [&call, &event, &close].map(|span| span.span_context.trace_id().to_string());
    assert_eq!(traces, expected, "what the next hop is told");
}
