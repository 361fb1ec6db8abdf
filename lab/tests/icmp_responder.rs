// SPDX-License-Identifier: Apache-2.0

//! Runs the example `icmp_responder` as a pod: a client gets a link to it through nsmgr and a
//! forwarder, and pings it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

mod stage;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use meridio_lab::{
    control_plane::nsmgr::Nsmgr,
    identity::agent::Agent,
    pods::pod::{Pod, Process, Start},
    topology::NODE,
    traffic::ping::ping,
};
use nsm::{Link, api::Connection, task::Tasks, testing::eventually, transport::Address};

use self::stage::{LIMIT, Manager};

/// A node with the lab's nsmgr.
type Stage = stage::Stage<Nsmgr>;

/// The example, which `cargo test` and `cargo build --examples` make.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("examples").join("icmp_responder");
    assert!(built.exists(), "no {}: `cargo build --example icmp_responder` makes it", built.display());
    built
}

/// Starts the example, with variables of its own beside those that it needs.
fn start(responder: &Pod, nsmgr: &Address, agent: &mut Agent, own: &[(&str, &str)]) -> Process {
    let agent = agent.attest(&responder.name, &responder.folder).unwrap();
    let nsmgr = nsmgr.to_string();
    let needed = [
        ("NSM_NAME", responder.name.as_str()),
        ("NSM_CONNECT_TO", &nsmgr),
        ("NSM_CIDR_PREFIX", "172.16.1.0/24"),
        ("NSM_LABELS", "app:ping"),
        ("SPIFFE_ENDPOINT_SOCKET", &agent),
    ];
    let environment = needed.iter().chain(own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let start = Start {
        program: &program(),
        arguments: &[],
        environment: &environment.collect::<Vec<_>>(),
        mounts: &[],
        confined: false,
        log: "log",
    };
    Process::start(responder, &start).unwrap()
}

impl Manager for Nsmgr {
    fn start(node: &Pod, agent: &mut Agent, tasks: &Tasks) -> (Self, Address) {
        let identity = agent.identity("nsmgr", &node.folder.join("nsmgr"), tasks).unwrap();
        let nsmgr = Self::start(node, &node.folder, NODE, identity).unwrap();
        let target = nsmgr.target.clone();
        (nsmgr, target)
    }

    fn log(&self) -> String {
        String::new() // that of the test
    }

    async fn stop(self) {
        Self::stop(self).await;
    }
}

impl Stage {
    fn start(&mut self, own: &[(&str, &str)]) -> Process {
        start(&self.server, &self.nsmgr, &mut self.agent, own)
    }
}

/// The connection of a link, once it is established.
async fn up(link: &Link, process: &Process) -> Arc<Connection> {
    let up = tokio::time::timeout(LIMIT, link.up()).await;
    up.unwrap_or_else(|_| panic!("not connected; {}", process.tail(10))).unwrap()
}

/// Sources of the policy routes of a connection.
fn sources(connection: &Connection) -> Vec<&str> {
    let policies = connection.ip_context().map(|ip| ip.policies.as_slice()).unwrap_or_default();
    policies.iter().map(|policy| policy.from.as_str()).collect()
}

/// Replaces a file at once, as kubelet does.
fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_pings_the_example_over_its_link() {
    let mut stage = Stage::new().await;
    let process = stage.start(&[]);
    let link = stage.client().connect(&"kernel://icmp-responder/nsm-1?app=ping".parse().unwrap());
    let connection = up(&link, &process).await;
    assert_eq!(connection.ip_context().unwrap().src_ip_addrs, ["172.16.1.1/32"]);
    assert_eq!(ping(&stage.visitor.netns, "172.16.1.0".parse().unwrap(), 3, LIMIT).unwrap(), 3);

    link.close(LIMIT).await.unwrap();
    assert_eq!(stage.server.netlink.links().await.unwrap().len(), 1, "only the loopback is left");
    let ended = process.terminate(LIMIT).await.unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "it drains and ends");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_get_dns_servers_and_policy_routes() {
    let mut stage = Stage::new().await;
    let file = stage.server.folder.join("routes.yaml");
    let route = "routes: [{prefix: 10.0.0.0/8, nexthop: 172.16.1.0}]";
    write(&file, &format!("- {{from: 20.0.0.1/32, proto: tcp, dstport: 80, {route}}}\n- {{proto: icmp}}\n"));
    let dns = r#"[{"dns_server_ips":["172.16.1.0"],"search_domains":["ping.test"]}]"#;
    let process = stage.start(&[("NSM_PBR_CONFIG_PATH", file.to_str().unwrap()), ("NSM_DNS_CONFIGS", dns)]);
    let client = stage.client();
    let first = client.connect(&"kernel://icmp-responder/nsm-1".parse().unwrap());
    let connection = up(&first, &process).await;
    assert_eq!(connection.ip_context().unwrap().src_ip_addrs, ["172.16.1.1/32", "20.0.0.1/32"]);
    let policy = &connection.ip_context().unwrap().policies[0];
    assert_eq!((policy.proto.as_str(), policy.dst_port.as_str()), ("tcp", "80"));
    assert_eq!(
        (policy.routes[0].prefix.as_str(), policy.routes[0].next_hop.as_str()),
        ("10.0.0.0/8", "172.16.1.0")
    );
    let context = connection.context.as_ref().unwrap().dns_context.as_ref().unwrap();
    assert_eq!(context.configs[0].dns_server_ips, ["172.16.1.0"]);
    assert_eq!(context.configs[0].search_domains, ["ping.test"]);

    write(&file, "- from: 20.0.0.999/32\n");
    eventually(|| process.tail(5), |log| log.contains("policy routes not accepted")).await;
    let second = client.connect(&"kernel://icmp-responder/nsm-2".parse().unwrap());
    assert_eq!(sources(&*up(&second, &process).await), ["20.0.0.1/32", ""], "the former ones stay");
    write(&file, "- from: 20.0.0.2/32\n");
    eventually(|| process.tail(5), |log| log.contains(r#""count":1"#)).await;
    let third = client.connect(&"kernel://icmp-responder/nsm-3".parse().unwrap());
    assert_eq!(sources(&*up(&third, &process).await), ["20.0.0.2/32"]);

    for link in [first, second, third] {
        link.close(LIMIT).await.unwrap();
    }
    process.terminate(LIMIT).await.unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_when_no_client_has_needed_it_for_long() {
    let mut stage = Stage::new().await;
    let first = stage.start(&[("NSM_SERVICE_NAMES", "ping"), ("NSM_IDLE_TIMEOUT", "5s")]);
    let client = stage.client();
    let link = client.connect(&"kernel://ping/nsm-1".parse().unwrap());
    up(&link, &first).await;
    link.close(LIMIT).await.unwrap();
    eventually(|| first.tail(5), |log| log.contains("no client: ends")).await;
    let ended = first.ended(LIMIT).await.unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "it ends by itself");

    // The network service stays registered, so a successor need not register it.
    let process = stage.start(&[("NSM_SERVICE_NAMES", "ping"), ("NSM_REGISTER_SERVICE", "false")]);
    let link = client.connect(&"kernel://ping/nsm-1".parse().unwrap());
    up(&link, &process).await;
    link.close(LIMIT).await.unwrap();
    process.terminate(LIMIT).await.unwrap();
    stage.end().await;
}
