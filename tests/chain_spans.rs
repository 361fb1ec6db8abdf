// SPDX-License-Identifier: Apache-2.0

//! Tests the spans of a chain, in a process of its own: tracing caches for all threads whether a
//! callsite is enabled.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nsm::{
    api::Connection,
    chain::{Call, Chain, Element, Error, Request},
};
use tower::timeout::TimeoutLayer;

struct Pass;
impl Element for Pass {
    const NAME: &'static str = "pass";
}

/// Records the names of spans.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);
impl tracing::Subscriber for Spans {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut spans = self.0.lock().unwrap();
        spans.push(format!("{}", span.values()));
        tracing::span::Id::from_u64(spans.len() as u64)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

async fn answer(call: Call) -> Result<Box<Connection>, Error> {
    Ok(call.into_connection())
}

#[tokio::test]
async fn every_row_has_a_span_when_somebody_listens() {
    let spans = Spans::default();
    let _on = tracing::subscriber::set_default(spans.clone());
    let timeout = TimeoutLayer::new(Duration::from_secs(1));
    let chain = Chain::new().with(Pass).layer("timeout", timeout);
    let chain = chain.end(tower::service_fn(answer)).build().unwrap();
    let mut next = chain.clone();
    tower::Service::call(&mut next, Call::Request(Request::new(Connection::named("a")))).await.unwrap();
    let seen = spans.0.lock().unwrap().join(" ");
    let at = |name: &str| seen.find(name).unwrap_or_else(|| panic!("{name} in {seen}"));
    assert!(at("pass") < at("timeout") && at("timeout") < at("end"), "{seen}");
}
