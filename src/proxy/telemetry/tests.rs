// SPDX-License-Identifier: Apache-2.0

use tokio::net::TcpListener;
use tracing::Instrument;
use tracing_subscriber::prelude::*;

use super::*;
use crate::{chain::Tasks, lab::Collector, transport::trace_context};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_the_collector_as_one_tree_under_the_callers_trace() {
    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (collector, tasks) = (Collector::default(), Tasks::default());
    let telemetry = Telemetry::start("proxy-1", Some(&collector.listen(&tasks).await.unwrap())).unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    let guard = tracing::subscriber::set_default(subscriber);
    let call = tracing::info_span!(target: "meridio_proxy::x", "call", id = "a");
    assert!(trace_context::set_parent(&call, CALLER, ""));
    async {
        let row = tracing::debug_span!(target: "meridio_proxy::x", "row", otel.name = "mtu");
        async {
            tracing::info_span!(target: "h2", "foreign").in_scope(|| ());
            tracing::trace_span!(target: "meridio_proxy::x", "too fine").in_scope(|| ());
        }
        .instrument(row)
        .await;
    }
    .instrument(call)
    .await;
    drop(guard);
    telemetry.stop(LIMIT).await;
    let spans = collector.spans();
    let named =
        |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!(named("call").trace, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(named("call").parent, "b7ad6b7169203331");
    assert_eq!(named("mtu").parent, named("call").id);
    assert_eq!(named("mtu").trace, named("call").trace);
    assert_eq!(collector.resource("service.name").as_deref(), Some("meridio-proxy"));
    assert_eq!(collector.resource("service.instance.id").as_deref(), Some("proxy-1"));
    tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_collector_costs_spans_and_a_counter_but_no_time() {
    // A port that was free a moment ago: nothing listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let telemetry = Telemetry::start("proxy-1", Some(&format!("http://{address}"))).unwrap();
    let losses = telemetry.losses();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    let started = std::time::Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..5000 {
            tracing::info_span!(target: "meridio_proxy::x", "call").in_scope(|| ());
        }
    });
    assert!(started.elapsed() < LIMIT, "calls waited {:?}", started.elapsed());
    telemetry.stop(LIMIT).await;
    assert!(started.elapsed() < LIMIT * 3, "{:?}", started.elapsed());
    assert!(losses.exports() >= 1 && losses.spans() >= 1, "{losses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_delays_the_end_by_no_more_than_the_limit() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let telemetry =
        Telemetry::start("proxy-1", Some(&format!("http://{}", mute.local_addr().unwrap()))).unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!(target: "meridio_proxy::x", "call").in_scope(|| ());
    });
    let started = std::time::Instant::now();
    telemetry.stop(Duration::from_millis(300)).await;
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
}
