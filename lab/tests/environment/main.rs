// SPDX-License-Identifier: Apache-2.0

//! Starts the real program with exactly the environments that manifests give it: those of Meridio's
//! chart, of Meridio's operator, of `deploy/base` and of `deploy/example`.
//!
//! `.ci/manifests` compares the last two with the rendered manifests.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

#[path = "../program/mod.rs"]
mod program;
mod table;

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread, time::Duration};

use nsm::{
    proxy::config::VARIABLES,
    testing::{Authority, Workload},
};
use serde_json::Value;
use tokio::sync::mpsc;

use self::program::{Program, enter_namespaces};

const HOUR: Duration = Duration::from_secs(3600);
/// Timeout of a start, up to the wait for IPAM.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const LINES: usize = 1000;

type Environment = BTreeMap<String, String>;

/// The environment of a file with lines `NAME=value`.
fn listed(file: &str) -> Environment {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/environment").join(file);
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('=').map(|(name, value)| (name.into(), value.into())).unwrap()).collect()
}

/// A proxy, killed when dropped.
struct Proxy {
    lines: mpsc::Receiver<String>,
    _program: Program,
}

impl Proxy {
    fn start(program: &Path, environment: &Environment) -> Self {
        let mut command = Command::new(program);
        let (sender, lines) = mpsc::channel(LINES);
        let program = Program::start(command.env_clear().envs(environment), move |line| {
            sender.blocking_send(line).is_ok()
        });
        Self { lines, _program: program }
    }

    /// The log until a line with this message and text.
    async fn log_until(&mut self, message: &str, text: &str) -> Vec<Value> {
        let mut log = Vec::new();
        let read = async {
            while let Some(line) = self.lines.recv().await {
                log.push(serde_json::from_str::<Value>(&line).expect(&line));
                if log.last().unwrap()["message"] == message && line.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(START_TIMEOUT, read).await;
        assert_eq!(found, Ok(true), "no `{message}` with `{text}` in {log:#?}");
        log
    }
}

/// Hides the folders of the machine that the proxy uses. This thread stays in the namespaces.
fn enter_pod() {
    enter_namespaces(&["/tmp", "/run"]).unwrap();
    fs::create_dir_all("/run/spire/sockets").unwrap();
}

/// Every variable is accepted and used: none is unknown, the log has no warning about one, and the
/// start comes to the wait for the IPAM that is named.
fn check(environment: &Environment) {
    for name in environment.keys() {
        let known = VARIABLES.iter().any(|variable| variable.name == name);
        assert!(known, "the proxy has no variable {name}");
    }
    let program = program::path(); // no mount hides it
    let (host, _) = environment["NSM_IPAM_SERVICE"].split_once(':').unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| {
                enter_pod();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let agent = Workload::listen("/run/spire/sockets/agent.sock").unwrap();
                    let authority = Authority::new("a.test");
                    agent.grant(authority.issue(&authority.pod("red", &environment["NSM_NAME"]), HOUR));
                    let mut proxy = Proxy::start(&program, environment);
                    let log = proxy.log_until("permitted to configure the network", "").await;
                    let complaints: Vec<_> = log
                        .iter()
                        .filter(|line| line["severity"] != "info" && line["severity"] != "debug")
                        .collect();
                    assert!(complaints.is_empty(), "{complaints:#?}");
                    assert_eq!(
                        log[0]["extra_data"]["name"],
                        environment["NSM_NAME"].as_str(),
                        "{:#?}",
                        log[0]
                    );
                    proxy.log_until("start waits", host).await;
                });
            })
            .join()
            .unwrap()
    });
}

#[test]
fn the_proxy_starts_with_the_variables_of_meridios_chart() {
    check(&listed("meridio-chart.env"));
}

#[test]
fn the_proxy_starts_with_the_variables_of_meridios_operator() {
    check(&listed("meridio-operator.env"));
}

#[test]
fn the_proxy_starts_with_the_variables_of_its_manifest() {
    let environment = listed("base.env");
    assert_eq!(environment["NSM_SERVICE_NAME"], "proxy.load-balancer.default.red");
    assert_eq!(environment["NSM_IPAM_SERVICE"], "ipam-service-default:7777");
    check(&environment);
}

#[test]
fn the_proxy_starts_with_the_variables_of_the_example() {
    let environment = listed("example.env");
    assert_eq!(environment["NSM_SERVICE_NAME"], "proxy.conduit-a.trench-a.red");
    assert_eq!(environment["NSM_METRICS_ENABLED"], "true");
    check(&environment);
}

#[test]
fn the_manifest_has_the_variables_of_meridios_operator() {
    // These three have the proxy's defaults, which are those of the operator's settings.
    let settings = ["NSM_GRPC_PROBE_RPC_TIMEOUT", "NSM_MTU", "NSM_IP_RELEASE_DELAY"];
    let operator = listed("meridio-operator.env");
    let names: Vec<_> = operator.keys().filter(|name| !settings.contains(&name.as_str())).cloned().collect();
    let ours: Vec<_> = listed("base.env").into_keys().collect();
    assert_eq!(ours, names);
}
