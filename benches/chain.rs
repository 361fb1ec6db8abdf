// SPDX-License-Identifier: Apache-2.0

//! Measure what a row of a chain costs, with tracing off and on, and what begin's hop costs.
//!
//! `chain/untraced/N` and `chain/traced/N` are one Request through N elements that do nothing; the slope between two N is the
//! cost of one element. `chain/begin` is the same as `chain/untraced/10` with `begin` on top. Traced spans are recorded by
//! OpenTelemetry and thrown away.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, time::SystemTime};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use meridio_proxy::{
    api::{Connection, Mechanism, MechanismKind, PathSegment},
    chain::{Call, Chain, Element, Next, Request, Result, Tasks, begin::BeginLayer},
};
use opentelemetry::trace::TracerProvider;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::layer::SubscriberExt;

/// Passes every call on.
struct Pass;

impl Element for Pass {
    const NAME: &'static str = "pass";
}

async fn answer(call: Call) -> Result<Box<Connection>> {
    Ok(call.into_connection())
}

fn chain(rows: usize, begin: Option<BeginLayer>) -> Next {
    let start = match begin {
        Some(begin) => Chain::new().layer("begin", begin),
        None => Chain::new(),
    };
    let chain = (0..rows).fold(start, |chain, _| chain.with(Pass));
    chain.build(tower::service_fn(answer)).unwrap()
}

/// A connection as a target's refresh carries it: four segments with tokens, dual-stack addresses, a mechanism.
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

criterion_group!(benches, untraced, traced);
criterion_main!(benches);
