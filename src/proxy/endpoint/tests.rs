// SPDX-License-Identifier: Apache-2.0

use std::future::ready;

use tokio::{net::UnixStream, sync::watch};

use super::*;
use crate::{
    chain::{Call, Chain, Error},
    proxy::health::LIVENESS,
    testing::Authority,
    transport::{Address, descriptors, identity::IdentityState},
};

#[test]
fn b05_the_offer_is_meridios() {
    let socket = Path::new("/tmp/px1/listen.on");
    let offer = offer("px", "proxy.c.t.ns", "node-1", socket);
    let [service] = offer.services.as_slice() else { panic!("{:?}", offer.services) };
    assert_eq!((service.name.as_str(), service.payload.as_str()), ("proxy.c.t.ns", "ETHERNET"));
    let [rule] = service.matches.as_slice() else { panic!("{:?}", service.matches) };
    let same_node = [("nodeName".to_owned(), "{{.nodeName}}".to_owned())].into();
    assert_eq!(rule.source_selector, same_node);
    assert_eq!(rule.routes[0].destination_selector, same_node);
    assert_eq!(offer.endpoint.name, "px");
    assert_eq!(offer.endpoint.network_service_names, ["proxy.c.t.ns"]);
    assert_eq!(offer.endpoint.network_service_labels["proxy.c.t.ns"].labels["nodeName"], "node-1");
    assert_eq!((offer.endpoint.url.as_str(), offer.endpoint.expiration_time), ("", None));
    assert_eq!(offer.socket.as_deref(), Some(socket));
}

#[test]
fn b05_without_a_node_there_is_no_label() {
    let offer = offer("px", "proxy.c.t.ns", "", Path::new("/tmp/px1/listen.on"));
    assert!(offer.endpoint.network_service_labels.is_empty());
}

const LIMIT: Duration = Duration::from_secs(5);

struct Served {
    endpoint: Server,
    dialer: Dialer,
    health: Health,
    tasks: Tasks,
    parent: tempfile::TempDir,
}

async fn served() -> Served {
    let parent = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let health = Health::default();
    let authority = Authority::new("test.domain");
    let chain = Chain::new()
        .end(tower::service_fn(|call: Call| ready(Ok::<_, Error>(call.into_connection()))))
        .build();
    let identity = authority.identity("px");
    let connections = Connections::default();
    let endpoint = serve(parent.path(), "px", chain.unwrap(), connections, identity.clone(), &health, &tasks)
        .await
        .unwrap();
    let target = endpoint.address().clone();
    let dial_timeout = Duration::from_millis(500);
    let dialer = Dialer { address: target, identity, dial_timeout, token_lifetime: Duration::from_secs(600) };
    Served { endpoint, dialer, health, tasks, parent }
}

#[tokio::test]
async fn the_endpoint_answers_all_health_names_over_mutual_tls() {
    let served = served().await;
    let ask = async |name: &str| {
        let wire = served.dialer.dial(Instant::now() + LIMIT).await.unwrap();
        let request = HealthCheckRequest { service: name.to_owned() };
        let request = wire.call(request, Some(Instant::now() + LIMIT), served.dialer.token_lifetime).unwrap();
        let answer = HealthClient::with_origin(wire, origin()).check(request).await;
        answer.map(|answer| answer.into_inner().status().as_str_name()).map_err(|status| status.code())
    };
    for name in ["", "Liveness", "networkservice.NetworkService", "connection.MonitorConnection"] {
        assert_eq!(ask(name).await, Ok("SERVING"), "{name}");
    }
    for name in ["Readiness", "IPAMCli", "NSPCli", "NSMEndpoint", "Egress"] {
        assert_eq!(ask(name).await, Ok("NOT_SERVING"), "{name}");
    }
    assert_eq!(ask("nobody").await, Err(tonic::Code::NotFound));
    served.tasks.stop().await;
}

#[tokio::test]
async fn the_check_of_the_own_endpoint_follows_whether_it_answers() {
    let served = served().await;
    let checking = served.tasks.guarded(check(served.dialer.clone(), LIMIT, served.health.clone()));
    let mut board = served.health.subscribe();
    let serving = board.wait_for(|board| board.part(Part::Endpoint).serving);
    tokio::time::timeout(LIMIT, serving).await.expect("SERVING within 5 s").unwrap();
    drop(checking);
    let parent = served.parent.path().to_owned();
    served.endpoint.stop(Instant::now() + LIMIT).await;
    assert_eq!(std::fs::read_dir(parent).unwrap().count(), 0, "nothing is left of the socket");
    let reason = check_once(&served.dialer, LIMIT).await.unwrap_err();
    assert!(reason.contains("listen.on"), "{reason}");
    served.tasks.stop().await;
}

#[tokio::test]
async fn the_check_passes_beside_silent_connections() {
    descriptors::raise().unwrap();
    let served = served().await;
    let Address::Unix(socket) = served.endpoint.address() else { panic!("no unix socket") };
    let mut silent = Vec::new();
    for count in [64, 1100] {
        while silent.len() < count {
            silent.push(UnixStream::connect(socket).await.unwrap());
        }
        for _ in 0..5 {
            assert_eq!(check_once(&served.dialer, LIMIT).await, Ok(()), "{count}");
        }
    }
    served.tasks.stop().await;
}

#[tokio::test]
async fn a_check_of_an_endpoint_that_is_mute_ends_at_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mute");
    let _mute = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let identity = Authority::new("test.domain").identity("px");
    let dial_timeout = Duration::from_millis(200);
    let dialer = Dialer {
        address: Address::Unix(socket),
        identity,
        dial_timeout,
        token_lifetime: Duration::from_secs(600),
    };
    let started = Instant::now();
    assert!(check_once(&dialer, LIMIT).await.is_err());
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_identity_is_not_checked_but_alive() {
    let tasks = Tasks::default();
    let health = Health::default();
    health.set(Part::Endpoint, true, "answers");
    let (known, standing) = watch::channel(IdentityState::default());
    let dialer = Dialer {
        address: Address::Unix("/nowhere/listen.on".into()),
        identity: Identity::of(standing),
        dial_timeout: LIMIT,
        token_lifetime: Duration::from_secs(600),
    };
    let _checking = tasks.guarded(check(dialer, LIMIT, health.clone()));
    let mut board = health.subscribe();
    let lacking = board.wait_for(|board| !board.part(Part::Endpoint).serving).await.unwrap().clone();
    assert!(lacking.part(Part::Endpoint).reason.contains("no identity yet"), "{lacking:?}");
    assert!(lacking.of(LIVENESS).unwrap().serving);
    known.send_replace(IdentityState { svid: Some(Authority::new("a.test").svid("px")), error: None });
    let unanswered = board.wait_for(|board| !board.of(LIVENESS).is_some_and(|liveness| liveness.serving));
    assert!(unanswered.await.unwrap().part(Part::Endpoint).reason.contains("listen.on"));
    tasks.stop().await;
}
