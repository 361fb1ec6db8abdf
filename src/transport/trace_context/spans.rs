// SPDX-License-Identifier: Apache-2.0

//! The trace context of spans that an OpenTelemetry layer records.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{TRACEPARENT, TRACESTATE};

/// Maximum length of a `traceparent` that is read, in bytes: version 00 has 55, later versions may
/// append.
const MAX_TRACEPARENT: usize = 128;
/// Maximum length of a `tracestate` that is read, in bytes; a longer one is dropped, as the W3C
/// recommendation allows.
const MAX_TRACESTATE: usize = 512;

/// Makes a remote span the parent of a span that has not been entered yet.
///
/// Returns whether the parent was set: `false` for a malformed `traceparent`, for a span that is
/// disabled or was entered before, and without an OpenTelemetry layer.
pub fn set_parent(span: &Span, traceparent: &str, tracestate: &str) -> bool {
    match remote(traceparent, tracestate) {
        Some(parent) => span.set_parent(Context::new().with_remote_span_context(parent)).is_ok(),
        None => false,
    }
}

/// Links a span to a remote or finished span without becoming its child. A malformed `traceparent`
/// changes nothing.
pub fn link(span: &Span, traceparent: &str, tracestate: &str) {
    if let Some(linked) = remote(traceparent, tracestate) {
        span.add_link(linked);
    }
}

/// The `traceparent` and `tracestate` (empty if there is none) that identify a span to the next
/// hop.
///
/// `None` if the span is disabled or not recorded.
pub fn current(span: &Span) -> Option<(String, String)> {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut headers = Headers::default();
    TraceContextPropagator::new().inject_context(&context, &mut headers);
    Some((headers.0.remove(TRACEPARENT)?, headers.0.remove(TRACESTATE).unwrap_or_default()))
}

/// Adds the trace context of a span to the headers of a call. Nothing changes if the span is
/// disabled or not recorded.
pub fn inject(span: &Span, headers: &mut http::HeaderMap) {
    let Some((parent, state)) = current(span) else { return };
    for (key, value) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
        if let (false, Ok(value)) = (value.is_empty(), value.parse()) {
            headers.insert(key, value);
        }
    }
}

fn remote(traceparent: &str, tracestate: &str) -> Option<SpanContext> {
    if traceparent.is_empty() || traceparent.len() > MAX_TRACEPARENT {
        return None;
    }
    let mut headers = Headers::default();
    headers.set(TRACEPARENT, traceparent.to_owned());
    if !tracestate.is_empty() && tracestate.len() <= MAX_TRACESTATE {
        headers.set(TRACESTATE, tracestate.to_owned());
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

#[derive(Default)]
struct Headers(HashMap<String, String>);

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn traced(with: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), with);
    }

    #[test]
    fn a_span_continues_its_callers_trace_with_a_new_span_id() {
        traced(|| {
            let span = tracing::info_span!("call");
            assert!(set_parent(&span, PARENT, "vendor=1"));
            let (traceparent, tracestate) = current(&span).unwrap();
            assert_eq!(traceparent.split('-').nth(1), PARENT.split('-').nth(1));
            assert_ne!(traceparent.split('-').nth(2), PARENT.split('-').nth(2));
            assert_eq!(tracestate, "vendor=1");
        });
    }

    #[test]
    fn a_span_with_a_malformed_parent_starts_a_new_trace() {
        let long = format!("{PARENT}{}", "0".repeat(200));
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for bad in ["", "banana", "00-xyz-b7ad6b7169203331-01", zero, &long] {
            traced(|| {
                let span = tracing::info_span!("call");
                assert!(!set_parent(&span, bad, ""), "{bad}");
                assert!(current(&span).is_some(), "{bad}");
            });
        }
    }

    #[test]
    fn an_overlong_tracestate_is_dropped_and_the_parent_kept() {
        traced(|| {
            let span = tracing::info_span!("call");
            assert!(set_parent(&span, PARENT, &format!("vendor={}", "1".repeat(600))));
            assert_eq!(current(&span).unwrap().1, "");
        });
    }

    #[test]
    fn an_entered_span_keeps_the_parent_it_started_with() {
        traced(|| {
            let span = tracing::info_span!("call");
            span.in_scope(|| ());
            assert!(!set_parent(&span, PARENT, ""));
        });
    }

    #[test]
    fn without_a_tracing_layer_there_is_no_context() {
        let span = tracing::info_span!("call");
        assert!(!set_parent(&span, PARENT, ""));
        link(&span, PARENT, "");
        assert_eq!(current(&span), None);
        assert_eq!(current(&Span::none()), None);
    }
}
