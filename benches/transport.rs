// SPDX-License-Identifier: Apache-2.0

//! Measures Requests over a unix socket with mTLS, against an endpoint in this process.
//!
//! `transport/request_over_unix_mtls` dials for each Request, as NSM's clients do: socket, both
//! handshakes, token, Request, answer. `transport/request_on_one_wire` leaves the dial out. Both
//! include the two signatures of a Request's tokens, and the check of the caller's.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nsm::{
    api::{
        Connection, PathSegment,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    },
    chain::{Call, Chain, Element, Error, Next, Reason, Request, Result},
    server::{
        Endpoint,
        monitor::{Connections, Limits},
        serve,
    },
    task::Tasks,
    testing::{Authority, Workload},
    transport::{Address, Caller, Dialer, Identity, Listener, Svid, token},
};
use tokio::{runtime::Runtime, time::Instant};

const LIFETIME: Duration = Duration::from_secs(600);

/// Verifies the caller's token and adds the endpoint's.
struct Tokens;

impl Element for Tokens {
    const NAME: &'static str = "tokens";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let caller: Caller = request.context.extensions.get().cloned().unwrap();
        let own = token::issue(&caller.svid, &caller.peer, LIFETIME).unwrap();
        let path = &mut request.connection.path_mut().path_segments;
        path[0].token = caller.token.unwrap().jwt().to_owned();
        path.push(PathSegment { token: own.jwt().to_owned(), ..PathSegment::default() });
        let verdict = token::verify_received(path, &caller.peer, SystemTime::now());
        verdict.map_err(|denied| Reason::Denied(denied.to_string()))?;
        next.request(request).await
    }
}

async fn svid(folder: &tempfile::TempDir, authority: &Authority, name: &str) -> Arc<Svid> {
    let tasks = Tasks::default();
    let workload = Workload::listen(folder.path().join(name)).unwrap();
    workload.grant(authority.issue(&authority.pod("bench", name), Duration::from_secs(3600)));
    let svid = Identity::follow(&workload.url(), &tasks).ready(soon()).await.unwrap();
    tasks.stop().await;
    svid
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

fn message() -> NetworkServiceRequest {
    let mut connection = Connection::named("bench");
    connection.path_mut().path_segments = vec![PathSegment::default()];
    NetworkServiceRequest { connection: Some(*connection), mechanism_preferences: Vec::new() }
}

/// An endpoint that is served for as long as the runtime lives, and its dialer.
async fn endpoint(folder: &tempfile::TempDir) -> Dialer {
    let authority = Authority::new("bench.test");
    let address = Address::Unix(folder.path().join("nse.sock"));
    let identity = Identity::fixed(svid(folder, &authority, "nse").await);
    let listener = Listener::bind(&address, identity).await.unwrap();
    let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
    let chain = Chain::new().with(Tokens).end(end).build().unwrap();
    let routes = Endpoint::new(chain, Connections::new(Limits::default())).routes();
    tokio::spawn(serve(listener, routes, std::future::pending(), Duration::ZERO));
    let identity = Identity::fixed(svid(folder, &authority, "nsc").await);
    Dialer { address, identity, dial_timeout: Duration::from_secs(5), token_lifetime: LIFETIME }
}

fn requests(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dialer = runtime.block_on(endpoint(&folder));
    let send = async |wire: &nsm::transport::Wire| {
        let call = wire.call(message(), Some(soon()), LIFETIME).unwrap();
        NetworkServiceClient::new(wire.clone()).request(call).await.unwrap()
    };
    let mut group = criterion.benchmark_group("transport");
    group.throughput(Throughput::Elements(1));
    group.bench_function("request_over_unix_mtls", |bencher| {
        bencher.to_async(&runtime).iter(async || send(&dialer.dial(soon()).await.unwrap()).await);
    });
    let wire = runtime.block_on(dialer.dial(soon())).unwrap();
    group.bench_function("request_on_one_wire", |bencher| {
        bencher.to_async(&runtime).iter(async || send(&wire).await);
    });
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
