// SPDX-License-Identifier: Apache-2.0

//! A chain behind a real socket: what peers send, what the chain sees, what they get back, and how it ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::*;
use crate::{
    api::{
        Connection, Mechanism, MechanismKind, PathSegment,
        pb::{
            connection::{ConnectionEvent, ConnectionEventType, MonitorScopeSelector},
            networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
        },
    },
    chain::{Call, Chain, Error, Reason, Tasks, begin::BeginLayer},
    transport::{
        Caller, Dialer, Listener, SendFds, Target, Wire,
        monitor::{self, Connections},
        origin,
        testing::{Authority, eventually, soon},
    },
};

const LIFETIME: Duration = Duration::from_secs(600);

/// What the chain saw of a call.
#[derive(Clone, Debug)]
struct Seen {
    call: Call,
    caller: Caller,
    trace: Option<TraceContext>,
    left: Duration,
}

/// What the end of the chain does: by the connection's id, see `end`.
#[derive(Clone)]
struct End {
    seen: Arc<Mutex<Vec<Seen>>>,
    finished: Arc<Mutex<usize>>,
    gate: Arc<Semaphore>,
}

impl End {
    async fn end(self, call: Call) -> Result<Box<Connection>, Error> {
        let context = call.context();
        let seen = Seen {
            caller: context.extensions.get::<Caller>().cloned().expect("a caller"),
            trace: context.extensions.get().cloned(),
            left: context.left(),
            call: call.clone(),
        };
        self.seen.lock().unwrap().push(seen);
        match &*call.connection().id {
            "denied" => return Err(Reason::Denied("no sufficient privileges".into()).into()),
            "exhausted" => return Err(Reason::Exhausted("no address left".into()).into()),
            "slow" => drop(self.gate.acquire().await),
            _ => {}
        }
        *self.finished.lock().unwrap() += 1;
        Ok(call.into_connection())
    }
}

struct World {
    authority: Authority,
    target: Target,
    end: End,
    connections: Connections,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(Duration::from_secs(5), |endpoint| endpoint).await
    }

    async fn with(drain: Duration, change: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        let (authority, folder) = (Authority::new("a.test"), tempfile::tempdir().unwrap());
        let target = Target::Unix(folder.path().join("nse.sock"));
        let listener = Listener::bind(&target, authority.identity("nse")).await.unwrap();
        let end = End { seen: Arc::default(), finished: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
        let (tasks, connections, last) = (Tasks::default(), Connections::default(), end.clone());
        let chain = Chain::new()
            .layer("begin", BeginLayer::endpoint(tasks.clone()))
            .build(tower::service_fn(move |call| last.clone().end(call)))
            .unwrap();
        let (_, health) = health().await;
        let services = change(Endpoint::new(chain, connections.clone())).routes().add_service(health);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let server = tokio::spawn(serve(listener, services, stopped, drain));
        Self { authority, target, end, connections, stop: Some(stop), server, tasks, _folder: folder }
    }

    async fn dial(&self) -> Wire {
        Wire::dial(&self.target, self.authority.svid("nsc"), soon()).await.unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.end.seen.lock().unwrap().clone()
    }

    async fn request(&self, wire: &Wire, message: NetworkServiceRequest) -> Result<Connection, Status> {
        let request = wire.call(message, Some(soon()), LIFETIME)?;
        send(wire, request).await
    }

    /// Stop the server; how long it took to end.
    async fn stop(&mut self) -> Duration {
        let begin = Instant::now();
        drop(self.stop.take());
        timeout(Duration::from_secs(10), &mut self.server).await.expect("the server ends").unwrap();
        begin.elapsed()
    }
}

async fn send(wire: &Wire, request: tonic::Request<NetworkServiceRequest>) -> Result<Connection, Status> {
    Ok(NetworkServiceClient::with_origin(wire.clone(), origin()).request(request).await?.into_inner())
}

fn message(connection: Connection) -> NetworkServiceRequest {
    NetworkServiceRequest { connection: Some(connection), mechanism_preferences: vec![] }
}

fn named(id: &str) -> Connection {
    *Connection::named(id)
}

#[tokio::test]
async fn a_request_and_a_close_reach_the_chain_with_who_called_and_why() {
    let world = World::new().await;
    let wire = world.dial().await;
    let preference = Mechanism::local(MechanismKind::Kernel);
    let sent = NetworkServiceRequest {
        connection: Some(Connection { network_service: "lb".into(), ..named("a") }),
        mechanism_preferences: vec![preference.clone()],
    };
    let mut request = wire.call(sent, Some(Instant::now() + Duration::from_secs(3)), LIFETIME).unwrap();
    request.metadata_mut().insert("traceparent", "00-1-2-01".parse().unwrap());
    request.metadata_mut().insert("tracestate", "a=1".parse().unwrap());
    let answer = send(&wire, request).await.unwrap();
    assert_eq!((&*answer.id, &*answer.network_service), ("a", "lb"));
    let close = wire.call(answer, Some(soon()), LIFETIME).unwrap();
    NetworkServiceClient::with_origin(wire.clone(), origin()).close(close).await.unwrap();

    let [request, close] = <[Seen; 2]>::try_from(world.seen()).unwrap();
    let Call::Request(got) = &request.call else { panic!("{request:?}") };
    assert_eq!(got.preferences, [preference]);
    assert_eq!(
        (request.caller.peer.id(), request.caller.svid.id()),
        ("spiffe://a.test/nsc", "spiffe://a.test/nse")
    );
    let token = request.caller.token.as_ref().expect("a token");
    assert!(request.caller.peer.signed(token.jwt()), "the token is that of the peer");
    let trace = TraceContext { traceparent: "00-1-2-01".into(), tracestate: "a=1".into() };
    assert_eq!(request.trace, Some(trace));
    assert!(
        request.left <= Duration::from_secs(3) && request.left > Duration::from_secs(1),
        "{:?}",
        request.left
    );
    assert!(matches!(&close.call, Call::Close(close) if close.connection.id == "a"));
    assert_eq!(close.trace, None);
}

#[tokio::test]
async fn a_call_takes_as_long_as_its_caller_waits_within_bounds() {
    let world = World::new().await;
    let wire = world.dial().await;
    let s = Duration::from_secs;
    for (sent, expected) in
        [(None, s(15)), (Some("7S"), s(7)), (Some("2M"), s(60)), (Some("99999999H"), s(60))]
    {
        let mut request = wire.call(message(named("a")), None, LIFETIME).unwrap();
        sent.map(|value| request.metadata_mut().insert("grpc-timeout", value.parse().unwrap()));
        send(&wire, request).await.unwrap();
        let left = world.seen().last().unwrap().left;
        assert!(left <= expected && left > expected - s(3), "{sent:?}: {left:?}");
    }
    let mut request = wire.call(message(named("a")), None, LIFETIME).unwrap();
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = send(&wire, request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`soon`"), "{status:?}");
}

#[tokio::test]
async fn what_no_honest_peer_sends_is_refused_before_the_chain() {
    let world = World::new().await;
    let wire = world.dial().await;
    let mut long_path = named("a");
    long_path.path_mut().path_segments = vec![PathSegment::default(); 10_000];
    let labels = HashMap::from([("key".to_owned(), "v".repeat(1 << 20))]);
    let preferences = vec![Mechanism::local(MechanismKind::Kernel); 65];
    #[rustfmt::skip]
    let table = [
        (NetworkServiceRequest::default(), Code::InvalidArgument, "no connection"),
        (message(long_path), Code::ResourceExhausted, "10000 path segments (at most 64)"),
        (message(Connection { labels, ..named("a") }), Code::ResourceExhausted, "1048579 bytes of labels"),
        (NetworkServiceRequest { mechanism_preferences: preferences, ..message(named("a")) }, Code::ResourceExhausted, "65 mechanism preferences (at most 64)"),
        (message(named(&"i".repeat(2000))), Code::ResourceExhausted, "2000 bytes of connection id (at most 1024)"),
        (message(Connection { payload: "p".repeat(5 << 20), ..named("a") }), Code::OutOfRange, "the limit is: 4194304 bytes"),
    ];
    for (message, code, text) in table {
        let status = world.request(&wire, message).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    assert_eq!(world.seen().len(), 0);
    assert_eq!(world.tasks.len(), 0, "no lane was made");
    world.request(&wire, message(named("a"))).await.expect("the connection still works");
}

#[tokio::test]
async fn errors_of_the_chain_become_statuses_by_its_table() {
    let world = World::new().await;
    let wire = world.dial().await;
    for (id, code, text) in [
        ("denied", Code::PermissionDenied, "no sufficient privileges"),
        ("exhausted", Code::ResourceExhausted, "no address left"),
    ] {
        let status = world.request(&wire, message(named(id))).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(
            status.message().contains(text) && status.message().contains(&format!("[{id}]")),
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn token_metadata_that_is_not_there_exactly_once_counts_as_none() {
    let world = World::new().await;
    let wire = world.dial().await;
    type Change = fn(&mut tonic::metadata::MetadataMap);
    let changes: [Change; 4] = [
        |metadata| assert!(metadata.append("nsm-client-token", "another".parse().unwrap())),
        |metadata| {
            assert!(metadata.append("nsm-client-token-expires", "2030-01-01T00:00:00Z".parse().unwrap()))
        },
        |metadata| drop(metadata.remove("nsm-client-token-expires")),
        |metadata| drop(metadata.insert("nsm-client-token-expires", "tomorrow".parse().unwrap())),
    ];
    for change in changes {
        let mut request = wire.call(message(named("a")), Some(soon()), LIFETIME).unwrap();
        change(request.metadata_mut());
        send(&wire, request).await.expect("it is for the chain to refuse");
        assert!(world.seen().last().unwrap().caller.token.is_none());
    }
}

#[tokio::test]
async fn the_endpoint_is_healthy_under_all_its_names() {
    let world = World::new().await;
    let wire = world.dial().await;
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::with_origin(wire.clone(), origin()).check(request).await;
        answer.map(|answer| answer.into_inner().status())
    };
    for service in ["", "networkservice.NetworkService", "connection.MonitorConnection"] {
        assert_eq!(check(service).await.unwrap(), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(check("other").await.unwrap_err().code(), Code::NotFound);
}

fn kinds(event: &ConnectionEvent) -> (ConnectionEventType, usize) {
    (ConnectionEventType::try_from(event.r#type).unwrap(), event.connections.len())
}

#[tokio::test]
async fn peers_monitor_connections_and_take_pictures_of_them() {
    let world = World::new().await;
    let wire = world.dial().await;
    let everything = MonitorScopeSelector::default;
    let mut events = monitor::watch(&wire, everything(), LIFETIME);
    drop(wire); // the stream keeps it open
    let mut next =
        async || kinds(&timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap().unwrap());
    assert_eq!(next().await, (ConnectionEventType::InitialStateTransfer, 0));
    world.connections.publish("a", named("a"));
    assert_eq!(next().await, (ConnectionEventType::Update, 1));
    world.connections.remove("a");
    assert_eq!(next().await, (ConnectionEventType::Delete, 1));
    drop(events);
    eventually(|| world.connections.streams(), |streams| *streams == 0).await;

    world.connections.publish("b", named("b"));
    let dialer = Dialer {
        target: world.target.clone(),
        identity: world.authority.identity("nsc"),
        dial_timeout: Duration::from_secs(5),
        token_lifetime: LIFETIME,
    };
    let picture = monitor::picture(&dialer, everything(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(kinds(&picture), (ConnectionEventType::InitialStateTransfer, 1));
    eventually(|| world.connections.streams(), |streams| *streams == 0).await;
}

#[tokio::test]
async fn a_picture_from_a_peer_that_is_not_there_ends_in_time() {
    let (authority, folder) = (Authority::new("a.test"), tempfile::tempdir().unwrap());
    let dialer = Dialer {
        target: Target::Unix(folder.path().join("nobody.sock")),
        identity: authority.identity("nsc"),
        dial_timeout: Duration::from_secs(5),
        token_lifetime: LIFETIME,
    };
    let begin = Instant::now();
    let error = monitor::picture(&dialer, MonitorScopeSelector::default(), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, monitor::NoPicture::Dial(_)), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_chain_goes_on_when_the_caller_goes_away() {
    let world = World::new().await;
    let wire = world.dial().await;
    let call = world.request(&wire, message(named("slow")));
    assert!(timeout(Duration::from_millis(200), call).await.is_err(), "it waits at the gate");
    drop(wire);
    eventually(|| world.seen().len(), |seen| *seen == 1).await;
    assert_eq!(*world.end.finished.lock().unwrap(), 0);
    world.end.gate.add_permits(1);
    eventually(|| *world.end.finished.lock().unwrap(), |finished| *finished == 1).await;
}

#[tokio::test]
async fn a_call_that_is_too_slow_is_answered_at_its_deadline() {
    let world = World::new().await;
    let wire = world.dial().await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let request = wire.call(message(named("slow")), Some(deadline), LIFETIME).unwrap();
    let status = send(&wire, request).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message().contains("deadline passed")),
        (Code::DeadlineExceeded, true),
        "{status:?}"
    );
}

#[tokio::test]
async fn descriptors_that_nobody_claims_are_closed_on_arrival_if_so_told() {
    for discards in [false, true] {
        let world =
            World::with(Duration::from_secs(5), |e| if discards { e.discard_descriptors() } else { e }).await;
        let wire = world.dial().await;
        let file = Arc::new(std::os::fd::OwnedFd::from(std::fs::File::open("/proc/self/ns/net").unwrap()));
        for _ in 0..3 {
            let mut request = wire.call(message(named("a")), Some(soon()), LIFETIME).unwrap();
            request.extensions_mut().insert(SendFds(vec![Arc::clone(&file)]));
            send(&wire, request).await.unwrap();
        }
        let hub = world.seen().last().unwrap().caller.hub.clone().unwrap();
        assert_eq!(hub.unclaimed(), if discards { 0 } else { 3 });
    }
}

#[tokio::test]
async fn the_server_ends_at_once_with_idle_connections_and_open_streams() {
    let mut world = World::new().await;
    let (wire, idle) = (world.dial().await, world.dial().await);
    let mut events = monitor::watch(&wire, MonitorScopeSelector::default(), LIFETIME);
    events.next().await.unwrap().unwrap();
    let took = world.stop().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let end = timeout(Duration::from_secs(5), events.next()).await.expect("the reader is told");
    assert!(end.is_none(), "the stream ends without an error: {end:?}");
    for wire in [wire, idle] {
        timeout(Duration::from_secs(5), wire.closed()).await.expect("connections are closed");
    }
    let dialled = Wire::dial(&world.target, world.authority.svid("nsc"), soon()).await;
    assert!(dialled.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_call_in_progress_may_finish_while_the_server_ends() {
    let mut world = World::new().await;
    let wire = world.dial().await;
    let request = wire.call(message(named("slow")), Some(soon()), LIFETIME).unwrap();
    let call = tokio::spawn({
        let wire = wire.clone();
        async move { send(&wire, request).await }
    });
    eventually(|| world.seen().len(), |seen| *seen == 1).await;
    let gate = Arc::clone(&world.end.gate);
    let release = async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.add_permits(1);
    };
    let (_, ()) = tokio::join!(world.stop(), release);
    assert_eq!(call.await.unwrap().expect("answered").id, "slow");
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_cut_and_nothing_is_left() {
    let mut world = World::with(Duration::from_millis(200), |endpoint| endpoint).await;
    let wire = world.dial().await;
    let request = wire.call(message(named("slow")), Some(soon()), LIFETIME).unwrap();
    let call = tokio::spawn({
        let wire = wire.clone();
        async move { send(&wire, request).await }
    });
    eventually(|| world.seen().len(), |seen| *seen == 1).await;
    let took = world.stop().await;
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
    assert!(call.await.unwrap().is_err());
    timeout(Duration::from_secs(5), wire.closed()).await.expect("the connection is closed");
}

#[tokio::test]
async fn dropping_the_server_cuts_its_connections() {
    let mut world = World::new().await;
    let wire = world.dial().await;
    world.request(&wire, message(named("a"))).await.unwrap();
    world.server.abort();
    assert!((&mut world.server).await.unwrap_err().is_cancelled());
    timeout(Duration::from_secs(5), wire.closed()).await.expect("the connection is closed");
}
