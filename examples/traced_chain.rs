// SPDX-License-Identifier: Apache-2.0

//! Exports the spans of a chain by OTLP: one for the call, one for each row.
//!
//! With `OTEL_EXPORTER_OTLP_ENDPOINT` set, the spans go there; without it, to a receiver in this
//! process that prints them.

use std::time::Duration;

use nsm::{
    api::Connection,
    app::telemetry::{Destination, Telemetry},
    chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
    elements::{mtu::Mtu, trace::Trace, update_path::UpdatePath},
    task::Tasks,
    testing::Collector,
};
use tracing_subscriber::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks = Tasks::default();
    let collector = Collector::default();
    let elsewhere = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok();
    let here = elsewhere.is_none();
    let endpoint = match elsewhere {
        Some(endpoint) => endpoint,
        None => collector.listen(&tasks).await?,
    };
    let telemetry = Telemetry::start(env!("CARGO_CRATE_NAME"), "traced-chain-1", &Destination::at(endpoint))?;
    tracing_subscriber::registry().with(telemetry.layer()).try_init()?;

    let chain = Chain::new()
        .with(Trace)
        .with(UpdatePath::new("traced-chain"))
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(MetadataLayer)
        .with(Mtu(1500));
    println!("{chain}");
    let chain = chain.build()?;
    chain.request(Request::new(Connection::named("a"))).await?;

    telemetry.stop(Duration::from_secs(5)).await;
    if here {
        let spans = collector.spans();
        let mut parent = spans.iter().find(|span| span.parent.is_empty());
        while let Some(span) = parent {
            println!("{} {}", span.trace, span.name);
            parent = spans.iter().find(|child| child.parent == span.id);
        }
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        for name in ["Request", "update_path", "begin", "metadata", "mtu"] {
            assert!(names.contains(&name), "no span `{name}` in {names:?}");
        }
    }
    tasks.stop().await;
    Ok(())
}
