// SPDX-License-Identifier: Apache-2.0

use std::path::PathBuf;

use tokio::time::{Instant, sleep, timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::{
    app::log::testing::logged,
    task::Tasks,
    testing::eventually,
    transport::{ListenError, descriptors},
};

const LIMIT: Duration = Duration::from_secs(5);

fn all_serve(health: &Health) {
    for part in Part::ALL {
        health.set(part, true, "");
    }
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("a/b/health.sock")
    }
}

#[tokio::test]
async fn g02_every_name_answers_over_the_socket_and_follows_its_part() {
    let dir = Dir::new();
    let health = Health::default();
    let tasks = Tasks::default();
    let served = serve(&dir.socket(), &health, &tasks).await.unwrap();
    let ask = async |name: &str| probe(&dir.socket(), name, LIMIT).await.map_err(|error| error.code());
    assert_eq!(ask("").await, Ok(()));
    assert_eq!(ask("Liveness").await, Ok(()), "the start is still patient");
    for name in ["Readiness", "IPAMCli", "NSPCli", "NSMEndpoint", "Egress"] {
        assert_eq!(ask(name).await, Err(4), "{name}");
    }
    all_serve(&health);
    for name in ["", "Liveness", "Readiness", "IPAMCli", "NSPCli", "NSMEndpoint", "Egress"] {
        assert_eq!(ask(name).await, Ok(()), "{name}");
    }
    health.set(Part::Egress, false, "no next hop");
    assert_eq!(
        (ask("Egress").await, ask("Readiness").await, ask("Liveness").await),
        (Err(4), Err(4), Ok(()))
    );
    health.set(Part::Endpoint, false, "refused");
    assert_eq!(ask("Liveness").await, Err(4));
    assert_eq!(ask("Startup").await, Err(3), "unknown name");
    drop(served);
    assert_eq!(ask("").await, Err(2), "nobody listens");
    assert!(!dir.socket().exists());
    tasks.stop().await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced_but_a_file_is_left_alone() {
    let dir = Dir::new();
    let health = Health::default();
    let tasks = Tasks::default();
    std::fs::create_dir_all(dir.socket().parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.socket()).unwrap());
    assert!(dir.socket().exists(), "std leaves the socket behind");
    let served = serve(&dir.socket(), &health, &tasks).await.unwrap();
    assert!(probe(&dir.socket(), "", LIMIT).await.is_ok());
    drop(served);
    eventually(|| dir.socket().exists(), |exists| !exists).await;
    std::fs::write(dir.socket(), "mine").unwrap();
    let error = serve(&dir.socket(), &health, &tasks).await.unwrap_err();
    assert!(matches!(error, ListenError::Occupied(_)), "{error}");
    assert_eq!(std::fs::read(dir.socket()).unwrap(), b"mine");
    tasks.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_leaves_the_socket_of_its_successor() {
    let dir = Dir::new();
    let health = Health::default();
    let tasks = Tasks::default();
    let former = serve(&dir.socket(), &health, &tasks).await.unwrap();
    std::fs::remove_file(dir.socket()).unwrap();
    let _successor = serve(&dir.socket(), &health, &tasks).await.unwrap();
    drop(former);
    assert!(probe(&dir.socket(), "", LIMIT).await.is_ok());
    tasks.stop().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let health = Health::default();
    let tasks = Tasks::default();
    let path = std::path::Path::new("/proc/nowhere/health.sock");
    let error = serve(path, &health, &tasks).await.unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere/health.sock"), "{error}");
}

#[tokio::test]
async fn a_watch_has_the_state_at_once_and_then_only_changes() {
    let dir = Dir::new();
    let health = Health::default();
    let tasks = Tasks::default();
    let _served = serve(&dir.socket(), &health, &tasks).await.unwrap();
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("unix://{}", dir.socket().display())).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let mut watch = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.watch(request).await.unwrap().into_inner()
    };
    let mut readiness = watch("Readiness").await;
    let mut unknown = watch("nobody").await;
    let next = async |stream: &mut tonic::Streaming<_>| {
        let response: tonic_health::pb::HealthCheckResponse =
            timeout(LIMIT, stream.message()).await.expect("an event within 5 s").unwrap().unwrap();
        response.status().as_str_name()
    };
    assert_eq!(next(&mut readiness).await, "NOT_SERVING");
    assert_eq!(next(&mut unknown).await, "SERVICE_UNKNOWN");
    health.set(Part::Egress, false, "another reason is no change");
    all_serve(&health);
    assert_eq!(next(&mut readiness).await, "SERVING");
    health.set(Part::Nsp, false, "gone");
    assert_eq!(next(&mut readiness).await, "NOT_SERVING");
    tasks.stop().await;
}

#[tokio::test]
async fn probes_pass_beside_silent_and_idle_connections() {
    descriptors::raise().unwrap();
    let dir = Dir::new();
    let health = Health::default();
    let tasks = Tasks::default();
    let _served = serve(&dir.socket(), &health, &tasks).await.unwrap();
    let mut silent = Vec::new();
    let mut idle = Vec::new();
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("unix://{}", dir.socket().display())).unwrap();
    for _ in 0..100 {
        silent.push(tokio::net::UnixStream::connect(dir.socket()).await.unwrap());
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        client.check(HealthCheckRequest::default()).await.unwrap();
        idle.push(client);
        assert!(probe(&dir.socket(), "", LIMIT).await.is_ok());
    }
    tasks.stop().await;
}

#[tokio::test]
async fn a_probe_of_a_silent_server_ends_at_its_limit() {
    let dir = Dir::new();
    std::fs::create_dir_all(dir.socket().parent().unwrap()).unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(dir.socket()).unwrap();
    let started = Instant::now();
    let error = probe(&dir.socket(), "", Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.code(), 2, "{error}");
    assert!(started.elapsed() < LIMIT);
}

#[tokio::test(start_paused = true)]
async fn liveness_never_ends_a_start_that_waits_for_a_peer() {
    let health = Health::default();
    let tasks = Tasks::default();
    tasks.spawn(health.watch_start(STEP_TIMEOUT));
    for peer in ["the SPIFFE Workload API", "IPAM", "nsmgr"] {
        health.waits_on(peer);
        sleep(Duration::from_secs(30 * 60)).await;
        let liveness = health.of(LIVENESS).unwrap();
        assert!(liveness.serving && liveness.reason.contains(peer), "{liveness:?}");
    }
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn liveness_ends_a_start_whose_own_step_hangs() {
    let health = Health::default();
    let tasks = Tasks::default();
    tasks.spawn(health.watch_start(STEP_TIMEOUT));
    health.waits_on("IPAM");
    sleep(2 * STEP_TIMEOUT).await;
    health.works_on("the leak stop", None);
    sleep(STEP_TIMEOUT - Duration::from_secs(1)).await;
    health.works_on("the leak stop", Some("refused".into()));
    let liveness = || health.of(LIVENESS).unwrap();
    assert!(liveness().serving);
    sleep(Duration::from_secs(2)).await;
    assert!(!liveness().serving && liveness().reason.contains("the leak stop: refused"), "{:?}", liveness());
    all_serve(&health);
    assert!(liveness().serving);
    tasks.stop().await;
}

#[test]
fn a_probe_is_no_log_line_and_a_change_is_one() {
    let health = Health::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let check = || {
        let request = tonic::Request::new(HealthCheckRequest { service: READINESS.into() });
        let service = Service::new(health.clone());
        let answer = tonic_health::pb::health_server::Health::check(&service, request);
        runtime.block_on(answer).unwrap().into_inner().status().as_str_name()
    };
    let lines = logged(|| {
        for _ in 0..100 {
            assert_eq!(check(), "NOT_SERVING");
        }
    });
    assert!(lines.is_empty(), "{lines:?}");
    let lines = logged(|| {
        for reason in ["refused", "refused", "late"] {
            health.set(Part::Ipam, false, reason);
        }
        health.set(Part::Ipam, true, "connected");
        health.set(Part::Ipam, true, "connected elsewhere");
    });
    let count = lines.len();
    let of = |line: usize, text: &str| lines[line].contains(text);
    assert!(count == 3 && of(0, "refused") && of(1, "late") && of(2, "connected"), "{lines:?}");
}

#[test]
fn a_degradation_is_logged_when_it_begins_and_ends() {
    let health = Health::default();
    let away = || Some("NSP is away, serving VIPs of the snapshot".to_owned());
    let lines = logged(|| {
        for found in [away(), away(), None, None] {
            health.degrade(Part::Egress, "vips", found);
        }
    });
    let of = |line: usize, text: &str| lines[line].contains(text) && lines[line].contains("NSP is away");
    assert!(lines.len() == 2 && of(0, "\"degraded\"") && of(1, "no longer degraded"), "{lines:?}");
}
