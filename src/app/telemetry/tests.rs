// SPDX-License-Identifier: Apache-2.0

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::metrics_service_server::MetricsServiceServer,
    trace::v1::trace_service_server::TraceServiceServer,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tracing::Instrument;
use tracing_subscriber::prelude::*;

use super::*;
use crate::{
    task::Tasks,
    testing::{Collector, bad_collector::BadCollector},
    transport::trace_context,
};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_the_collector_as_a_tree_in_the_callers_trace() {
    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let collector = Collector::default();
    let tasks = Tasks::default();
    let telemetry = Telemetry::start(
        "meridio-proxy",
        "proxy-1",
        &Destination::at(collector.listen(&tasks).await.unwrap()),
    )
    .unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    let guard = tracing::subscriber::set_default(subscriber);
    let call = tracing::info_span!(target: "nsm::x", "call", id = "a");
    assert!(trace_context::set_parent(&call, CALLER, ""));
    async {
        let row = tracing::debug_span!(target: "nsm::x", "row", otel.name = "mtu");
        async {
            tracing::info_span!(target: "h2", "foreign").in_scope(|| ());
            tracing::trace_span!(target: "nsm::x", "too fine").in_scope(|| ());
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
    let tasks = Tasks::default();
    let dead = Destination::at(BadCollector::Refuses.start(&tasks).await);
    let telemetry = Telemetry::start("meridio-proxy", "proxy-1", &dead).unwrap();
    let losses = telemetry.losses();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    let started = std::time::Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..5000 {
            tracing::info_span!(target: "nsm::x", "call").in_scope(|| ());
        }
    });
    assert!(started.elapsed() < LIMIT, "calls waited {:?}", started.elapsed());
    telemetry.stop(LIMIT).await;
    assert!(started.elapsed() < LIMIT * 3, "{:?}", started.elapsed());
    assert!(losses.exports() >= 1 && losses.spans() >= 1, "{losses:?}");
    tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_collector_delays_the_end_by_the_limit_at_most() {
    let tasks = Tasks::default();
    let silent = Destination::at(BadCollector::Hangs.start(&tasks).await);
    let telemetry = Telemetry::start("meridio-proxy", "proxy-1", &silent).unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!(target: "nsm::x", "call").in_scope(|| ());
    });
    let started = std::time::Instant::now();
    telemetry.stop(Duration::from_millis(300)).await;
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    tasks.stop().await;
}

/// A collector behind TLS that requires client certificates, and a destination with the files for
/// it.
async fn behind_tls(collector: &Collector, tasks: &Tasks, folder: &Path) -> Destination {
    let pem = |kind: &str, der: &[u8]| {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", BASE64_STANDARD.encode(der))
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let certificate = pem("CERTIFICATE", own.der());
    let key = pem("PRIVATE KEY", &key.serialize_der());
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&certificate, &key))
        .client_ca_root(Certificate::from_pem(&certificate));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()));
    tasks.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
    let certificate = file("tls.crt", &certificate);
    Destination {
        certificate: Some(certificate.clone()),
        client: Some(ClientFiles { certificate, key: file("tls.key", &key) }),
        ..Destination::at(format!("https://localhost:{port}"))
    }
}

/// Exports one span; returns how many exports failed.
async fn export_span(destination: &Destination) -> u64 {
    let telemetry = Telemetry::start("meridio-proxy", "proxy-1", destination).unwrap();
    let losses = telemetry.losses();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!(target: "nsm::x", "call").in_scope(|| ());
    });
    telemetry.stop(LIMIT).await;
    losses.exports()
}

/// Exports one counter; returns how many exports failed.
async fn export_counter(destination: &Destination) -> u64 {
    let (reader, losses) = metrics::reader(destination).unwrap();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    provider.meter("x").u64_counter("calls").build().add(1, &[]);
    let _reported = spawn_blocking(move || provider.shutdown()).await.unwrap();
    losses.exports()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_behind_tls_is_verified_and_verifies_its_caller() {
    let collector = Collector::default();
    let tasks = Tasks::default();
    let folder = tempfile::tempdir().unwrap();
    let destination = behind_tls(&collector, &tasks, folder.path()).await;
    let other = tempfile::tempdir().unwrap();
    let foreign = behind_tls(&Collector::default(), &tasks, other.path()).await;
    let stranger = Destination { client: None, ..destination.clone() };
    let impostor = Destination { certificate: foreign.certificate, ..destination.clone() };
    let table = [
        (destination, 0, "both have what the other verifies"),
        (stranger, 1, "the collector requires a certificate"),
        (impostor, 1, "the collector's certificate is of another issuer"),
    ];
    for (destination, failed, why) in table {
        let exports = [export_span(&destination).await, export_counter(&destination).await];
        assert_eq!(exports, [failed, failed], "{why}");
    }
    assert_eq!(collector.spans().len(), 1);
    assert_eq!(collector.metrics()["calls"][0].1, 1.0);
    tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_resets_connections_costs_the_export_alone() {
    let tasks = Tasks::default();
    let destination = Destination::at(BadCollector::Resets.start(&tasks).await);
    let began = std::time::Instant::now();
    let exports = [export_span(&destination).await, export_counter(&destination).await];
    assert!(exports.iter().all(|failed| *failed >= 1), "{exports:?}");
    assert!(began.elapsed() < LIMIT * 3, "{:?}", began.elapsed());
    tasks.stop().await;
}

#[test]
fn a_file_that_is_of_no_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (file, text) in [(&missing, "cannot read"), (&empty, "no certificate in PEM")] {
        let destination =
            Destination { certificate: Some(file.clone()), ..Destination::at("https://localhost:4317") };
        let error = Telemetry::start("meridio-proxy", "proxy-1", &destination).unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains(text) && error.contains(file.to_str().unwrap()), "{error}");
    }
}
