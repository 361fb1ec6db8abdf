// SPDX-License-Identifier: Apache-2.0

//! Follows one Request through both chains of the proxy in an OTLP receiver: one tree, across the
//! socket between them.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "rows/rig.rs"]
mod rig;
#[path = "rows/spans.rs"]
mod spans;

use std::{collections::BTreeMap, time::Duration};

use nsm::{
    app::telemetry::{Destination, Telemetry},
    elements::mechanism::Names,
    proxy::chains::{self, Parts},
    testing::{Collector, Received},
};
use rig::{Rig, Setup, Side, ask, request};
use tracing_subscriber::prelude::*;

/// The child of a span that has this name.
fn child<'a>(spans: &'a [Received], parent: &Received, name: &str) -> &'a Received {
    let children: Vec<_> = spans.iter().filter(|span| span.parent == parent.id).collect();
    let names: Vec<_> = children.iter().map(|span| span.name.as_str()).collect();
    children.iter().find(|span| span.name == name).unwrap_or_else(|| {
        panic!("`{name}` is not a child of `{}`, which has {names:?}", parent.name);
    })
}

/// Walks down the rows of a chain, each the child of the previous one.
fn walk<'a>(spans: &'a [Received], from: &'a Received, rows: &str) -> &'a Received {
    rows.split(" → ").fold(from, |parent, row| match row {
        // the trace row has no span of its own: it opens that of the call
        "trace" => child(spans, parent, "Request"),
        _ => child(spans, parent, row),
    })
}

#[tokio::test]
async fn one_request_is_one_tree_through_both_chains() {
    let collector = Collector::default();
    let tasks = nsm::task::Tasks::default();
    let endpoint = collector.listen(&tasks).await.unwrap();
    let telemetry = Telemetry::start("meridio-proxy", "px", &Destination::at(endpoint)).unwrap();
    let on = tracing::subscriber::set_default(tracing_subscriber::registry().with(telemetry.layer()));

    // The proxy's client chain, under another name, calls the proxy's endpoint chain.
    let setup = Setup { side: Side::Endpoint, row: "trace", removed: false };
    let rig = Rig::new(setup, spans::Names::default()).await;
    let names = Names::new(|_| false);
    let caller = Parts {
        name: "caller".into(),
        dialer: rig.dialer(Duration::from_secs(600)),
        names,
        ..rig.parts.clone()
    };
    let caller = chains::client(&caller).build().unwrap();
    let root = tracing::info_span!(target: "nsm::test", "test");
    let asked = tracing::Instrument::instrument(ask(&caller, request("t")), root);
    asked.await.unwrap();

    let (endpoint_rows, client_rows) = rig.printed.clone();
    rig.end().await;
    drop(on);
    telemetry.stop(Duration::from_secs(5)).await;
    tasks.stop().await;

    let spans = collector.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "test").collect();
    assert_eq!(roots.len(), 1, "{spans:?}");
    let connect = walk(&spans, roots[0], &client_rows);
    let rpc = child(&spans, connect, "networkservice.NetworkService/Request");
    let end = walk(&spans, rpc, &endpoint_rows);
    assert_eq!(end.trace, roots[0].trace);

    let mut calls: BTreeMap<&str, &str> = BTreeMap::new();
    for span in spans.iter().filter(|span| span.name == "Request") {
        let text = |key: &str| span.attributes.get(key).map_or("", String::as_str);
        calls.insert(text("id"), text("network_service"));
    }
    assert_eq!(calls.get("t"), Some(&"load-balancer.trench.default"), "{calls:?}");
    assert_eq!(collector.resource("service.name").as_deref(), Some("meridio-proxy"));
}
