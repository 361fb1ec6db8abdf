// SPDX-License-Identifier: Apache-2.0

//! Tests a registration on the wire, and across a restart of nsmgr.

use std::{fs, path::PathBuf};

use tokio::time::{sleep, timeout};
use tonic::Code;

use super::*;
use crate::{
    api::pb::registry::NetworkServiceEndpointResponse,
    registry::{
        Offer, Registration, ServiceOwner, Settings, State, ensure,
        testing::{Nsmgr, ReceivedCall},
    },
    testing::{Authority, eventually},
    transport::{Address, Listener},
};

const FIRST: &str = r#"{"Index":0,"PathSegments":null}"#;
const LATER: &str = r#"{"Index":0,"PathSegments":[{"token":"T"},{"token":"T"},{"token":"T"}]}"#;

struct World {
    authority: Authority,
    address: Address,
    socket: PathBuf,
    _listener: Listener,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new("a.test");
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("nsm.sock"));
        let socket = folder.path().join("nse.sock");
        let listener =
            Listener::bind(&Address::Unix(socket.clone()), authority.identity("px")).await.unwrap();
        Self { authority, address, socket, _listener: listener, _folder: folder }
    }

    async fn nsmgr(&self) -> Nsmgr {
        Nsmgr::start(&self.authority, &self.address).await
    }

    /// The client of a pod.
    fn client(&self, pod: &str, deadline: Duration) -> Client {
        let dialer = Dialer {
            address: self.address.clone(),
            identity: self.authority.identity(pod),
            dial_timeout: Duration::from_secs(5),
            token_lifetime: Duration::from_secs(600),
        };
        Client::new(dialer, deadline)
    }

    fn px(&self) -> Client {
        self.client("px", Duration::from_secs(5))
    }

    fn inode(&self) -> String {
        Inode::of(rustix::fs::open(&self.socket, OFlags::PATH, Mode::empty()).unwrap()).unwrap().to_string()
    }

    fn registration(&self) -> Registration {
        let offer = Offer {
            services: vec![service("ETHERNET")],
            endpoint: endpoint(),
            socket: Some(self.socket.clone()),
        };
        Registration::start(self.px(), offer, Settings::default())
    }

    /// Number of descriptors of the listening socket's file in this process.
    fn descriptors(&self) -> usize {
        let socket = fs::canonicalize(&self.socket).unwrap();
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|file| file == socket)).count()
    }
}

fn service(payload: &str) -> NetworkService {
    NetworkService { name: "svc".into(), payload: payload.into(), ..Default::default() }
}

fn endpoint() -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: "px".into(),
        network_service_names: vec!["svc".into()],
        ..Default::default()
    }
}

async fn registered(registration: &Registration) {
    let mut state = registration.state();
    let reached = timeout(Duration::from_secs(10), state.wait_for(State::is_registered)).await;
    assert!(reached.is_ok_and(|reached| reached.is_ok()), "{:?}", registration.state().borrow());
}

async fn next(found: &mut Found) -> NetworkServiceEndpointResponse {
    timeout(Duration::from_secs(5), found.next()).await.expect("an event").expect("open").expect("no error")
}

#[tokio::test]
async fn register_sends_path_token_and_descriptor_on_a_new_wire() {
    let world = World::new().await;
    let nsmgr = world.nsmgr().await;
    let client = world.px();
    let socket = Some(&*world.socket);
    let (answer, path) = client.register(endpoint(), socket, TokenPath::default()).await.unwrap();
    assert_eq!(answer.path_ids[0], "spiffe://a.test/px");
    let (_, path) = client.register(endpoint(), socket, path).await.unwrap();
    client.unregister(endpoint(), socket, path).await.unwrap();
    let arrived = nsmgr.state().arrived.clone();
    let expected = [("register", FIRST), ("register", LATER), ("unregister", LATER)];
    assert_eq!(
        arrived.iter().map(|ReceivedCall { what, path, .. }| (*what, &**path)).collect::<Vec<_>>(),
        expected
    );
    for ReceivedCall { url, timeout, .. } in &arrived {
        assert_eq!(*url, world.inode());
        assert!(timeout.ends_with(['m', 'u', 'n', 'S']), "grpc-timeout is `{timeout}`");
    }
    assert_ne!(arrived[0].connection, arrived[1].connection);
    assert_eq!(nsmgr.state().endpoints.len(), 0);
}

#[tokio::test]
async fn a_call_without_a_path_is_denied_as_by_the_real_registry() {
    let world = World::new().await;
    let _nsmgr = world.nsmgr().await;
    let client = world.px();
    let (wire, mut request) =
        client.prepare(endpoint(), Some(&world.socket), &TokenPath::default()).await.unwrap();
    request.metadata_mut().remove("path");
    let status = Endpoints::with_origin(wire, origin()).register(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn after_an_answer_with_an_odd_path_the_next_call_starts_over() {
    let world = World::new().await;
    let nsmgr = world.nsmgr().await;
    let many = format!(r#"{{"PathSegments":[{}]}}"#, vec!["{}"; 100].join(","));
    for odd in ["rubbish", &many, r#"{"Index":7}"#] {
        nsmgr.state().odd_path = Some(odd.to_owned());
        let sent = TokenPath::default();
        let (answer, path) = world.px().register(endpoint(), Some(&world.socket), sent).await.unwrap();
        assert_eq!((&*answer.name, path), ("px", TokenPath::default()), "{odd}");
    }
}

#[tokio::test]
async fn failures_name_the_failed_step() {
    let world = World::new().await;
    let short = world.client("px", Duration::from_millis(300));
    let register = async |socket| short.register(endpoint(), socket, TokenPath::default()).await.unwrap_err();
    let missing = world.socket.with_file_name("missing.sock");
    let error = register(Some(&*missing)).await;
    assert!(matches!(&error, Error::Socket { path, .. } if *path == missing), "{error:?}");
    let error = register(Some(&*world.socket)).await;
    assert!(matches!(error, Error::Dial(_)), "nobody listens: {error:?}");

    let nsmgr = world.nsmgr().await;
    nsmgr.state().hangs = true;
    let error = register(Some(&*world.socket)).await;
    assert!(matches!(&error, Error::Status(status) if status.code() == Code::DeadlineExceeded), "{error:?}");
    let error = register(None).await;
    assert!(!error.is_final(), "{error:?}");
    let stranger = Authority::new("b.test");
    let dialer = Dialer { identity: stranger.identity("px"), ..short.dialer.clone() };
    let error =
        Client::new(dialer, Duration::from_millis(300)).register_service(service("IP")).await.unwrap_err();
    assert!(matches!(error, Error::Dial(_)), "another trust domain: {error:?}");
}

#[tokio::test]
async fn find_returns_present_entries_and_a_watch_later_ones() {
    let world = World::new().await;
    let nsmgr = world.nsmgr().await;
    let client = world.px();
    // Nothing matches, so the server sends nothing, not even headers. Opening must not wait for
    // that.
    let opened = timeout(Duration::from_secs(5), client.find(endpoint(), true)).await;
    let mut watch = opened.expect("opened at once").unwrap();
    let waits = timeout(Duration::from_millis(100), watch.next()).await;
    assert!(waits.is_err(), "{waits:?}");
    let mut path = TokenPath::default();
    for _ in 0..3 {
        path = client.register(endpoint(), Some(&world.socket), path).await.unwrap().1;
        let event = next(&mut watch).await;
        assert_eq!((event.network_service_endpoint.unwrap().name.as_str(), event.deleted), ("px", false));
    }
    let mut now = client.find(endpoint(), false).await.unwrap();
    assert_eq!(next(&mut now).await.network_service_endpoint.unwrap().name, "px");
    assert_eq!(eventually(|| world.descriptors(), |held| *held == 1).await, 1, "only nsmgr's own");
    nsmgr.delete("px");
    assert!(next(&mut watch).await.deleted);
    nsmgr.stop().await;
    let end = timeout(Duration::from_secs(5), watch.next()).await.expect("the watch ends");
    assert!(end.is_none_or(|end| end.is_err()));
}

#[tokio::test]
async fn the_same_service_of_another_pod_is_used() {
    let world = World::new().await;
    let _nsmgr = world.nsmgr().await;
    let other = world.client("other", Duration::from_secs(5));
    assert_eq!(ensure(&other, &service("ETHERNET")).await.unwrap(), ServiceOwner::Ours);
    assert_eq!(ensure(&other, &service("ETHERNET")).await.unwrap(), ServiceOwner::Ours, "its own");
    assert_eq!(ensure(&world.px(), &service("ETHERNET")).await.unwrap(), ServiceOwner::Theirs);
    let error = ensure(&world.px(), &service("IP")).await.unwrap_err();
    assert!(error.to_string().contains("payload `ETHERNET` (ours: `IP`)"), "{error}");
}

#[tokio::test]
async fn everything_is_registered_within_a_second_of_nsmgrs_return() {
    let world = World::new().await;
    let nsmgr = world.nsmgr().await;
    let registration = world.registration();
    registered(&registration).await;
    nsmgr.stop().await;
    sleep(Duration::from_secs(7)).await; // longer than a Register may take
    let nsmgr = world.nsmgr().await;
    let back = || {
        let state = nsmgr.state();
        (state.endpoints.contains_key("px"), state.services.contains_key("svc"))
    };
    let within = timeout(Duration::from_secs(1), eventually(back, |back| *back == (true, true))).await;
    assert!(within.is_ok(), "{:?}, {:?}", back(), registration.state().borrow());
    registration.unregister().await.unwrap();
    let state = nsmgr.state();
    assert_eq!(state.arrived.last().unwrap().what, "unregister");
    assert!(state.endpoints.is_empty() && state.services.contains_key("svc"), "the service stays");
}

#[tokio::test]
async fn an_entry_that_nsmgr_deletes_comes_back() {
    let world = World::new().await;
    let nsmgr = world.nsmgr().await;
    let registration = world.registration();
    registered(&registration).await;
    eventually(|| nsmgr.state().watches(), |watches| *watches == 1).await;
    nsmgr.delete("px");
    eventually(|| nsmgr.state().endpoints.contains_key("px"), |there| *there).await;
    assert_eq!(nsmgr.state().arrived.len(), 2);
}

#[tokio::test]
async fn unregistering_without_nsmgr_fails_in_time() {
    let world = World::new().await;
    let nsmgr = world.nsmgr().await;
    let registration = world.registration();
    registered(&registration).await;
    nsmgr.stop().await;
    let begin = Instant::now();
    let error = registration.unregister().await.unwrap_err();
    assert!(matches!(error, Error::Dial(_) | Error::Deadline(_)), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
