// SPDX-License-Identifier: Apache-2.0

//! Runs the example `icmp_responder` as a pod: a client gets a link to it through nsmgr and a
//! forwarder, and pings it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use meridio_lab::{
    control_plane::{forwarder::Forwarder, nsmgr::Nsmgr},
    identity::agent::Agent,
    pods::{
        ground::Ground,
        pod::{Pod, Process, Start},
    },
    topology::NODE,
    traffic::ping::ping,
};
use nsm::{
    Client,
    elements::{
        mechanism::{self, Names},
        send_fd,
    },
    task::Tasks,
    transport::Address,
};
/// Longest wait for each step.
const LIMIT: Duration = Duration::from_secs(20);
/// Folder of the pods: a pod sees its own `/tmp` only.
const PODS: &str = "/dev/shm";

/// The example, which `cargo test` and `cargo build --examples` make.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("examples").join("icmp_responder");
    assert!(built.exists(), "no {}: `cargo build --example icmp_responder` makes it", built.display());
    built
}

fn start(responder: &Pod, nsmgr: &Address, agent: &mut Agent) -> Process {
    let environment = [
        ("NSM_NAME", responder.name.clone()),
        ("NSM_CONNECT_TO", nsmgr.to_string()),
        ("NSM_CIDR_PREFIX", "172.16.1.0/24".into()),
        ("NSM_LABELS", "app:ping".into()),
        ("SPIFFE_ENDPOINT_SOCKET", agent.attest(&responder.name, &responder.folder).unwrap()),
    ];
    let environment: Vec<_> = environment.map(|(name, value)| (name.to_owned(), value)).into();
    let start = Start {
        program: &program(),
        arguments: &[],
        environment: &environment,
        mounts: &[],
        confined: false,
        log: "log",
    };
    Process::start(responder, &start).unwrap()
}

fn client(pod: &Pod, agent: &mut Agent, nsmgr: &Address, tasks: &Tasks) -> Client {
    let identity = agent.identity(&pod.name, &pod.folder, tasks).unwrap();
    Client::builder(&pod.name, identity, nsmgr, tasks)
        .with(mechanism::Client::new(Names::new(|_| false)))
        .with(send_fd::Client::new(send_fd::Netns::of(pod.netns.descriptor()).unwrap()))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_pings_the_example_over_its_link() {
    let folder = tempfile::tempdir_in(PODS).unwrap();
    let ground = Ground::unnamed(folder.path());
    let (tasks, mut agent) = (Tasks::default(), Agent::new().unwrap());
    let node = Pod::new("forwarder", &ground).await.expect("root, or a user namespace (`lab exec`)");
    let manager = Pod::new("nsmgr", &ground).await.unwrap();
    let responder = Pod::new("responder", &ground).await.unwrap();
    let visitor = Pod::new("visitor", &ground).await.unwrap();
    let identity = agent.identity(&manager.name, &manager.folder, &tasks).unwrap();
    let nsmgr = Nsmgr::start(&manager, &manager.folder, NODE, identity).unwrap();
    let identity = agent.identity(&node.name, &node.folder, &tasks).unwrap();
    let forwarder = Forwarder::start(&node, &nsmgr.target, identity).unwrap();
    forwarder.registered(LIMIT).await.unwrap();

    let process = start(&responder, &nsmgr.target, &mut agent);
    let client = client(&visitor, &mut agent, &nsmgr.target, &tasks);
    let link = client.connect(&"kernel://icmp-responder/nsm-1?app=ping".parse().unwrap());
    let up = tokio::time::timeout(LIMIT, link.up()).await;
    let connection = up.unwrap_or_else(|_| panic!("not connected; {}", process.tail(10))).unwrap();
    let ip = connection.ip_context().unwrap();
    assert_eq!(ip.src_ip_addrs, ["172.16.1.1/32"]);
    assert_eq!(ping(&visitor.netns, "172.16.1.0".parse().unwrap(), 3, LIMIT).unwrap(), 3);

    link.close(LIMIT).await.unwrap();
    assert_eq!(responder.netlink.links().await.unwrap().len(), 1, "only the loopback is left");
    let ended = process.terminate(LIMIT).await.unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "it drains and ends");
    forwarder.stop().await;
    nsmgr.stop().await;
    tasks.stop().await;
}
