// SPDX-License-Identifier: Apache-2.0

//! Runs `Endpoint` and `Client` of the SDK through NSM's Go nsmgr and registry, against a Go
//! client, a Go endpoint and each other, and pings over the link that the lab's forwarder makes.
//!
//! Run by `make interop`, which builds the Go programs first.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

mod stage;

use std::path::PathBuf;

use meridio_lab::{
    control_plane::peers::{CLIENT, ENDPOINT, Peers, run},
    eventually::eventually,
    identity::agent::Agent,
    pods::pod::{Pod, Process},
    traffic::ping::ping,
};
use nsm::{
    Endpoint, Link,
    elements::{
        mechanism::{self, Names},
        point_to_point::PointToPoint,
        send_fd::{self, Netns},
    },
    task::Tasks,
    transport::Address,
};

use self::stage::{LIMIT, Manager};

/// Number of echo requests.
const PINGS: u16 = 10;
/// Number of lines of a log in which an event is looked for.
const LINES: usize = 100;
/// Addresses of the pair that both endpoints give first.
const CLIENTS: &str = "172.16.1.1";
const ENDPOINTS: &str = "172.16.1.0";

/// A node with Go's nsmgr and registry.
type Stage = stage::Stage<Peers>;

/// The folder of the Go programs.
fn programs() -> PathBuf {
    let folder = std::env::var_os("INTEROP_BIN").expect("INTEROP_BIN is not set: run `make interop`");
    folder.into()
}

impl Manager for Peers {
    fn start(node: &Pod, agent: &mut Agent, _: &Tasks) -> (Self, Address) {
        let nsmgr = Address::Unix(node.folder.join("nsm.io.sock"));
        (Self::start(&programs(), node, &nsmgr, agent).unwrap(), nsmgr)
    }

    fn log(&self) -> String {
        self.tail(10)
    }

    async fn stop(self) {
        Self::stop(self).await;
    }
}

impl Stage {
    /// Our endpoint of the network service `service`, registered.
    async fn endpoint(&mut self) -> Endpoint {
        let identity = self.agent.identity(&self.server.name, &self.server.folder, &self.tasks).unwrap();
        let endpoint = Endpoint::builder(&self.server.name, identity, &self.tasks)
            .with(PointToPoint::new(format!("{ENDPOINTS}/24").parse().unwrap()))
            .with(mechanism::Endpoint::new(Names::new(|_| false)))
            .with(send_fd::Endpoint::new(Netns::of(self.server.netns.descriptor()).unwrap()))
            .offer("service")
            .sockets(&self.server.folder)
            .register_with(&self.nsmgr);
        let endpoint = endpoint.serve().await.unwrap();
        let registered = tokio::time::timeout(LIMIT, endpoint.registered()).await;
        registered.unwrap_or_else(|_| panic!("not registered; {}", self.manager.log())).unwrap();
        endpoint
    }

    /// A Go endpoint of the network service `service`.
    fn go_endpoint(&mut self) -> Process {
        let connect = self.nsmgr.to_string();
        let client = format!("{CLIENTS}/32");
        let address = format!("{ENDPOINTS}/32");
        let arguments = ["-connect", &connect, "-client-address", &client, "-address", &address];
        run(&programs(), ENDPOINT, &self.server, &mut self.agent, &arguments).unwrap()
    }

    /// Our client's link to the network service `service`, once it is established.
    async fn link(&mut self) -> Link {
        let link = self.client().connect(&"kernel://service/nsm-1".parse().unwrap());
        let up = tokio::time::timeout(LIMIT, link.up()).await;
        up.unwrap_or_else(|_| panic!("not up: {:?}; {}", *link.state().borrow(), self.manager.log()))
            .unwrap();
        link
    }

    /// A Go client that is connected to the network service `service` until it is terminated.
    async fn go_client(&mut self) -> Process {
        let connect = self.nsmgr.to_string();
        let arguments = ["-connect", &connect, "-refreshes", "0", "-hold"];
        let client = run(&programs(), CLIENT, &self.visitor, &mut self.agent, &arguments).unwrap();
        let answered = eventually("the Go client is answered", LIMIT, async || {
            let log = client.tail(LINES);
            if log.contains(r#""event":"answer""#) { Ok(()) } else { Err(log) }
        });
        answered.await.unwrap();
        client
    }

    /// Each end has one link beside its loopback, by which it reaches the other.
    async fn pings(&self) {
        assert_eq!(self.links().await, [2, 2]);
        assert_eq!(ping(&self.visitor.netns, ENDPOINTS.parse().unwrap(), PINGS, LIMIT).unwrap(), PINGS);
        assert_eq!(ping(&self.server.netns, CLIENTS.parse().unwrap(), PINGS, LIMIT).unwrap(), PINGS);
    }

    /// Numbers of links of client and endpoint.
    async fn links(&self) -> [usize; 2] {
        let visitors = self.visitor.netlink.links().await.unwrap().len();
        [visitors, self.server.netlink.links().await.unwrap().len()]
    }

    /// Only the loopback is left at both ends.
    async fn without_links(&self) {
        let gone = eventually("no link is at either end", LIMIT, async || match self.links().await {
            [1, 1] => Ok(()),
            links => Err(format!("{links:?}")),
        });
        gone.await.unwrap();
    }
}

async fn succeeds(process: Process) {
    let log = process.tail(20);
    let ended = process.terminate(LIMIT).await.unwrap();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_client_pings_an_endpoint_of_the_sdk() {
    let mut stage = Stage::new().await;
    let endpoint = stage.endpoint().await;
    let client = stage.go_client().await;
    stage.pings().await;
    succeeds(client).await;
    assert!(endpoint.connections().is_empty(), "the Close arrives");
    endpoint.stop(LIMIT).await;
    stage.without_links().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_sdk_pings_a_go_endpoint() {
    let mut stage = Stage::new().await;
    let endpoint = stage.go_endpoint();
    let link = stage.link().await;
    stage.pings().await;
    link.close(LIMIT).await.unwrap();
    succeeds(endpoint).await;
    stage.without_links().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_of_the_sdk_ping_each_other_through_go_managers() {
    let mut stage = Stage::new().await;
    let endpoint = stage.endpoint().await;
    let link = stage.link().await;
    stage.pings().await;
    link.close(LIMIT).await.unwrap();
    endpoint.stop(LIMIT).await;
    stage.without_links().await;
    stage.end().await;
}
