// SPDX-License-Identifier: Apache-2.0

//! Measures the cost of a chain's row, with tracing off and on, and of begin's hop.
//!
//! `chain/untraced/N` and `chain/traced/N` are one Request through N elements that do nothing; the
//! slope between two N is the cost of one element. `chain/begin` is the same as `chain/untraced/10`
//! with `begin` on top. Traced spans are recorded by OpenTelemetry and thrown away.
//! `chain/endpoint` and `chain/client` are refreshes through the proxy's two chains, with kernel,
//! IPAM and next hop in memory; the endpoint signs one token and verifies one.
//! `chain/endpoint/observed` and `chain/client/observed` are the same with the metrics of the
//! proxy, which measure each row.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nsm::{
    api::{Connection, Mechanism, MechanismKind, PathSegment},
    chain::{Chain, Element, Next, Request, Tail, begin::BeginLayer},
    elements::update_path::rules,
    ipam::BRIDGE,
    proxy::{
        chains::{self, Parts},
        in_memory,
    },
    task::Tasks,
    transport::{Caller, Dialer, FdHub, Identity},
};
use opentelemetry::trace::TracerProvider;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};
use tower_layer::Layer;
use tracing_subscriber::layer::SubscriberExt;

/// Passes every call on.
struct Pass;

impl Element for Pass {
    const NAME: &'static str = "pass";
}

fn chain(rows: usize, begin: Option<BeginLayer>) -> Next {
    let rows = (0..rows).fold(Chain::new().build().unwrap(), |next, _| Pass.layer().layer(next));
    let start = match begin {
        Some(begin) => Chain::new().with(begin),
        None => Chain::new(),
    };
    start.end(rows).build().unwrap()
}

/// A connection as a target's refresh carries it: four segments with tokens, dual-stack addresses,
/// a mechanism.
fn connection() -> Box<Connection> {
    let mut connection = Connection::named("target-a-proxy.load-balancer.trench-a.default-0");
    connection.network_service = "proxy.load-balancer.trench-a.default".into();
    connection.payload = "ETHERNET".into();
    connection.mechanism = Some(Mechanism::local(MechanismKind::Kernel));
    let segment = |name: &str| PathSegment {
        name: name.into(),
        id: "9a2e1b1c-6f44-4c4f-9e57-2a9f0a5d7a11".into(),
        token: "t".repeat(275),
        expires: Some(SystemTime::now().into()),
        ..PathSegment::default()
    };
    connection.path_mut().path_segments = ["target-a", "nsmgr", "forwarder", "proxy"].map(segment).into();
    connection.path_mut().path_segments[0].id = connection.id.clone();
    let ip = connection.ip_context_mut();
    ip.src_ip_addrs = vec!["172.16.1.6/24".into(), "fd00:0:0:1::6/64".into(), "20.0.0.1/32".into()];
    ip.dst_ip_addrs = vec!["172.16.1.7/24".into(), "fd00:0:0:1::7/64".into()];
    ip.extra_prefixes = vec!["172.16.1.1/24".into(), "fd00:0:0:1::1/64".into()];
    connection
}

fn measure(criterion: &mut Criterion, id: &str, runtime: &Runtime, chain: &Next) {
    let connection = connection();
    criterion.bench_function(id, |bencher| {
        bencher.to_async(runtime).iter_batched(
            || Request::new(connection.clone()),
            |request| async { black_box(chain.request(request).await.unwrap()) },
            BatchSize::SmallInput,
        );
    });
}

fn untraced(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    for rows in [1, 10, 40] {
        measure(criterion, &format!("chain/untraced/{rows}"), &runtime, &chain(rows, None));
    }
    let tasks = Tasks::default();
    let begin = {
        let _inside = runtime.enter();
        chain(10, Some(BeginLayer::endpoint(tasks.clone())))
    };
    measure(criterion, "chain/begin", &runtime, &begin);
    runtime.block_on(tasks.stop());
}

fn traced(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
    let _on = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    for rows in [1, 10, 40] {
        measure(criterion, &format!("chain/traced/{rows}"), &runtime, &chain(rows, None));
    }
}

/// The proxy's parts with everything in memory, and a target that calls its endpoint.
async fn parts(folder: &Path, tasks: &Tasks) -> (Parts, Caller) {
    let caller = common::caller(folder, tasks).await;
    let in_memory = in_memory::parts("px", tasks).unwrap();
    let soon = tokio::time::Instant::now() + Duration::from_secs(10);
    let gateways = in_memory.leases.acquire(BRIDGE, soon).await.unwrap().addresses();
    let parts = Parts {
        gateways: watch::channel(gateways.into()).1,
        dialer: Dialer { identity: Identity::fixed(Arc::clone(&caller.svid)), ..in_memory.dialer.clone() },
        ..in_memory
    };
    (parts, caller)
}

/// Measures refreshes: Requests with the connection that the first one returned.
fn refreshes(
    criterion: &mut Criterion,
    id: &str,
    runtime: &Runtime,
    chain: &Next,
    first: &dyn Fn() -> Request,
) {
    let answer = runtime.block_on(chain.request(first())).unwrap();
    criterion.bench_function(id, |bencher| {
        bencher.to_async(runtime).iter_batched(
            || Request { connection: answer.clone(), ..first() },
            |request| async { black_box(chain.request(request).await.unwrap()) },
            BatchSize::SmallInput,
        );
    });
}

fn proxy(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let (parts, caller) = runtime.block_on(parts(folder.path(), &tasks));
    let request = |name: &str, caller: Option<&Caller>| {
        let mut connection = connection();
        connection.mechanism = None;
        connection.path = None;
        rules::enter(&mut connection, name, String::new).unwrap();
        let mut request = Request::new(connection);
        request.preferences = vec![Mechanism::local(MechanismKind::Kernel)];
        if let Some(caller) = caller {
            let hub = Some(Arc::new(FdHub::default())); // nothing is written, so descriptors would pile up
            request.context.extensions.insert(Caller { hub, ..caller.clone() });
        }
        request
    };
    let endpoint = chains::endpoint(&parts).build().unwrap();
    refreshes(criterion, "chain/endpoint", &runtime, &endpoint, &|| request("target", Some(&caller)));
    let observed =
        chains::endpoint(&parts).observe(in_memory::observer("endpoint").unwrap()).build().unwrap();
    let id = "chain/endpoint/observed";
    refreshes(criterion, id, &runtime, &observed, &|| request("target", Some(&caller)));
    let client = chains::client(&parts).end(Tail).build().unwrap();
    refreshes(criterion, "chain/client", &runtime, &client, &|| request("px", None));
    let observed = chains::client(&parts).end(Tail).observe(in_memory::observer("client").unwrap());
    let observed = observed.build().unwrap();
    refreshes(criterion, "chain/client/observed", &runtime, &observed, &|| request("px", None));
    runtime.block_on(tasks.stop());
}

criterion_group!(benches, untraced, traced, proxy);
criterion_main!(benches);
