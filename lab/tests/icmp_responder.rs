// SPDX-License-Identifier: Apache-2.0

//! Runs the example `icmp_responder` as a pod: a client gets a link to it through nsmgr and a
//! forwarder, and pings it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use meridio_lab::{
    control_plane::{forwarder::Forwarder, nsmgr::Nsmgr},
    identity::agent::{self, Agent},
    pods::{
        ground::Ground,
        pod::{Pod, Process, Start},
    },
    topology::NODE,
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
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, ipproto,
    sockopt::{Timeout, set_socket_timeout},
};

/// Longest wait for each step.
const LIMIT: Duration = Duration::from_secs(20);
/// Folders of nsmgr's and of the agent's socket in the pod.
const NSM: &str = "/run/nsm";
const SPIRE: &str = "/run/spire";

/// The example, which `cargo test` and `cargo build --examples` make.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("examples").join("icmp_responder");
    assert!(built.exists(), "no {}: `cargo build --example icmp_responder` makes it", built.display());
    built
}

/// Sends an echo request from a pod, and waits for its reply.
fn ping(pod: &Pod, to: Ipv4Addr) -> io::Result<()> {
    pod.netns.run(|| {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT))?;
        // Type 8, code 0, checksum, identifier 1, sequence number 1.
        let request = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
        rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddrV4::new(to, 0))?;
        loop {
            let mut packet = [0; 256];
            let (_, length) = rustix::net::recv(&socket, &mut packet, RecvFlags::empty())?;
            let header = usize::from(packet[0] & 0xf) * 4;
            let reply = packet[..length].get(header..header + 8).unwrap_or_default();
            if packet[12..16] == to.octets() && reply.first() == Some(&0) && reply[4..] == request[4..] {
                return Ok(());
            }
        }
    })
}

fn start(responder: &Pod, nsm: &Path, agent: &mut Agent) -> Process {
    let spire = responder.folder.join("spire");
    agent.attest(&responder.name, &spire).unwrap();
    let environment = [
        ("NSM_NAME", responder.name.clone()),
        ("NSM_CONNECT_TO", format!("unix://{NSM}/nsm.io.sock")),
        ("NSM_CIDR_PREFIX", "172.16.1.0/24".into()),
        ("NSM_LABELS", "app:ping".into()),
        ("SPIFFE_ENDPOINT_SOCKET", format!("unix://{SPIRE}/{}", agent::SOCKET)),
    ];
    let environment: Vec<_> = environment.map(|(name, value)| (name.to_owned(), value)).into();
    let start = Start {
        program: &program(),
        arguments: &[],
        environment: &environment,
        mounts: &[(spire, SPIRE), (nsm.to_owned(), NSM), (responder.state().unwrap(), "/tmp")],
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
    let folder = tempfile::tempdir().unwrap();
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

    let process = start(&responder, &manager.folder, &mut agent);
    let client = client(&visitor, &mut agent, &nsmgr.target, &tasks);
    let link = client.connect(&"kernel://icmp-responder/nsm-1?app=ping".parse().unwrap());
    let up = tokio::time::timeout(LIMIT, link.up()).await;
    let connection = up.unwrap_or_else(|_| panic!("not connected; {}", process.tail(10))).unwrap();
    let ip = connection.ip_context().unwrap();
    assert_eq!(ip.src_ip_addrs, ["172.16.1.1/32"]);
    ping(&visitor, "172.16.1.0".parse().unwrap()).unwrap();

    link.close(LIMIT).await.unwrap();
    assert_eq!(responder.netlink.links().await.unwrap().len(), 1, "only the loopback is left");
    let ended = process.terminate(LIMIT).await.unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "it drains and ends");
    forwarder.stop().await;
    nsmgr.stop().await;
    tasks.stop().await;
}
