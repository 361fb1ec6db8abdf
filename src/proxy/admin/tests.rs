// SPDX-License-Identifier: Apache-2.0
use std::{os::unix::fs::PermissionsExt, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

use super::*;
use crate::proxy::{
    config::{Config, LogLevel, Setting},
    health::{Health, Part},
    log::Verbosity,
    state::Sources,
};

/// An admin listener on a port of its own.
struct Rig {
    address: String,
    health: Health,
    verbosity: Verbosity,
    tasks: Tasks,
    _served: Served,
}

fn config() -> Config {
    let socket = |name: &str| (name == "SPIFFE_ENDPOINT_SOCKET").then(|| "unix:///run/agent.sock".into());
    Config { settings: Setting::all(socket), ..Config::parse(socket).unwrap() }
}

fn admin(health: &Health) -> Admin {
    Admin {
        sources: Sources::new(&config(), health),
        verbosity: Verbosity::new("proxy", LogLevel::Debug),
        metrics: None,
    }
}

impl Rig {
    async fn new() -> Self {
        let tasks = Tasks::default();
        let health = Health::default();
        let admin = admin(&health);
        let verbosity = admin.verbosity.clone();
        let listener = listen(&Address::Tcp("127.0.0.1:0".into())).await.unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { panic!("not TCP") };
        let served = serve(listener, router(admin), &tasks);
        Self { address, health, verbosity, tasks, _served: served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// The answer to a request with this first line.
    async fn ask(&self, line: &str) -> Response {
        self.send(&format!("{line} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
    }

    async fn send(&self, bytes: &str) -> Response {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        Response::read(&mut stream).await
    }
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[tokio::test]
async fn health_is_answered_with_its_reason() {
    let rig = Rig::new().await;
    let live = rig.ask("GET /healthz").await;
    assert_eq!((live.status, live.body.as_str()), (200, "works on the start\n"));
    let ready = rig.ask("GET /readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("IPAMCli: not started"), "{}", ready.body);
    for part in Part::ALL {
        rig.health.set(part, true, "works");
    }
    rig.health.degrade(Part::Egress, "test", ["no room".to_owned()]);
    let ready = rig.ask("GET /readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "every part serves\ndegraded: Egress: no room\n"));
    rig.tasks.stop().await;
}

#[tokio::test]
async fn state_chains_and_config_are_documents() {
    let rig = Rig::new().await;
    let state = rig.ask("GET /state").await;
    assert_eq!(state.status, 200);
    assert!(state.head.contains("content-type: application/json"), "{}", state.head);
    assert!(state.head.contains("cache-control: no-store"), "{}", state.head);
    assert_eq!(state.json()["version"], 1);
    assert_eq!(state.json()["start"]["step"], "works on the start");
    assert_eq!(rig.ask("GET /chains").await.json()["endpoint"][0], "trace");
    let config = rig.ask("GET /config").await.json();
    let mtu = config.as_array().unwrap().iter().find(|setting| setting["name"] == "NSM_MTU").unwrap();
    assert_eq!((&mtu["value"], &mtu["default"]), (&"1500".into(), &true.into()));
    let head = rig.ask("HEAD /state").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    rig.tasks.stop().await;
}

#[tokio::test]
async fn a_wrong_path_or_method_names_the_accepted_ones() {
    let rig = Rig::new().await;
    let unknown = rig.ask("GET /nonsense?x=1").await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.body.starts_with("path `/nonsense` is not accepted (accepted: /, /healthz, "),
        "{unknown:?}"
    );
    for (line, accepted) in
        [("POST /state", "GET"), ("DELETE /log-level", "GET, PUT"), ("PUT /healthz", "GET")]
    {
        let refused = rig.ask(line).await;
        assert_eq!(refused.status, 405, "{line}");
        assert!(refused.head.contains(&format!("allow: {}", accepted.to_lowercase())), "{refused:?}");
        assert!(refused.body.ends_with(&format!("is not accepted (accepted: {accepted})\n")), "{refused:?}");
    }
    rig.tasks.stop().await;
}

#[tokio::test]
async fn the_log_level_is_read_and_set() {
    let rig = Rig::new().await;
    let put = |body: &str| format!("PUT /log-level HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(rig.ask("GET /log-level").await.body, "DEBUG\n");
    assert_eq!(rig.send(&put("trace\n")).await.body, "TRACE\n");
    assert_eq!(rig.verbosity.level(), LogLevel::Trace);
    assert_eq!(rig.ask("GET /log-level").await.body, "TRACE\n");
    let wrong = rig.send(&put("LOUD")).await;
    let text = "level `LOUD` is not accepted (accepted: INFO, DEBUG, TRACE)\n";
    assert_eq!((wrong.status, wrong.body.as_str()), (400, text));
    let long = rig.send(&put(&"x".repeat(100_000))).await;
    assert_eq!(long.status, 413);
    assert!(long.body.starts_with("the body is longer than 64 bytes"), "{long:?}");
    assert_eq!(rig.verbosity.level(), LogLevel::Trace);
    rig.tasks.stop().await;
}

#[tokio::test]
async fn a_request_by_the_name_of_another_site_is_refused() {
    let rig = Rig::new().await;
    let answer = rig.send("GET /state HTTP/1.1\r\nhost: evil.example:9090\r\n\r\n").await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.starts_with("host `evil.example:9090` is not accepted"), "{answer:?}");
    rig.tasks.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_costs_a_warning() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(taken.local_addr().unwrap().to_string());
    let tasks = Tasks::default();
    assert!(start(Some(&address), admin(&Health::default()), &tasks).await.is_none());
    assert!(tasks.is_empty());
}

#[tokio::test]
async fn a_unix_socket_is_open_to_the_own_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("admin.sock");
    let tasks = Tasks::default();
    let address = Address::Unix(path.clone());
    let served = start(Some(&address), admin(&Health::default()), &tasks).await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /log-level HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(Response::read(&mut stream).await.body, "DEBUG\n");
    drop(served);
    tasks.stop().await;
    assert!(!path.exists());
}

/// Serves an answer of 64 MB within bounds of time.
async fn large(times: serve::Times, tasks: &Tasks) -> (String, Served) {
    let listener = listen(&Address::Tcp("127.0.0.1:0".into())).await.unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else { panic!("not TCP") };
    let routes = axum::Router::new().fallback(async || vec![b'x'; 64 << 20]);
    (address, serve::serve_within(times, listener, routes, tasks))
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_cut_off() {
    let tasks = Tasks::default();
    let times = serve::Times { header: Duration::from_secs(60), whole: Duration::from_millis(200) };
    let (address, _served) = large(times, &tasks).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    for _ in 0..40 {
        stream.read_u8().await.unwrap();
        tokio::time::sleep(times.whole / 20).await; // the pace of this client
    }
    let mut read = Vec::new();
    let _reset = stream.read_to_end(&mut read).await;
    assert!(read.len() < 64 << 20, "{}", read.len());
    tasks.stop().await;
}

#[tokio::test]
async fn a_header_that_does_not_end_is_not_waited_for() {
    let tasks = Tasks::default();
    let times = serve::Times { header: Duration::from_millis(200), whole: Duration::from_secs(60) };
    let (address, _served) = large(times, &tasks).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    let mut read = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut read)).await;
    assert!(ended.is_ok(), "it is still waited for");
    tasks.stop().await;
}
