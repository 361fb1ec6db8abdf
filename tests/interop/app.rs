// SPDX-License-Identifier: Apache-2.0

//! Runs `Endpoint` and `Client` of the SDK in a Go control plane: against a Go client, a Go
//! endpoint, and each other.

use std::time::Duration;

use nsm::{
    Client, Endpoint, Link, LinkState,
    api::Connection,
    elements::{
        mechanism::{self, Names},
        point_to_point::PointToPoint,
        send_fd,
    },
    task::Tasks,
    transport::{Address, Identity},
};
use tokio::time::timeout;

use crate::{
    client_case::{Callee, connects_refreshes_and_closes},
    node::{ControlPlane, Node, START_TIMEOUT, TIMEOUT},
    ours::netns,
    programs::{Netns, Outcome},
};

/// Pods of our endpoint and of our client.
const SERVER: &str = "web";
const VISITOR: &str = "visitor";
/// The hops of a call through the control plane, without its ends.
const HOPS: [&str; 2] = ["nsmgr", "forwarder"];

/// A Go control plane, and the parts of our side.
struct Stage {
    node: Node,
    _control: ControlPlane,
    tasks: Tasks,
    nsmgr: Address,
}

impl Stage {
    async fn new() -> Outcome<Self> {
        let mut node = Node::new()?;
        let _control = node.control_plane().await?;
        let nsmgr = node.manager().parse().map_err(|error| format!("{error}"))?;
        Ok(Self { node, _control, tasks: Tasks::default(), nsmgr })
    }

    fn identity(&mut self, pod: &str) -> Outcome<Identity> {
        Ok(Identity::follow(&self.node.workload(pod)?, &self.tasks))
    }

    /// Our endpoint of the network service `service`, registered.
    async fn endpoint(&mut self) -> Outcome<Endpoint> {
        let prefix = "172.16.1.0/24".parse().map_err(|error| format!("{error}"))?;
        let endpoint = Endpoint::builder(SERVER, self.identity(SERVER)?, &self.tasks)
            .with(PointToPoint::new(prefix))
            .with(mechanism::Endpoint::new(Names::new(|_| false)))
            .with(send_fd::Endpoint::new(netns()?))
            .offer("service")
            .sockets(self.node.path(""))
            .register_with(&self.nsmgr);
        let endpoint = endpoint.serve().await.map_err(|error| error.to_string())?;
        let registered = timeout(TIMEOUT, endpoint.registered()).await;
        registered.map_err(|_| "not registered")?.map_err(|error| error.to_string())?;
        Ok(endpoint)
    }

    /// A link of our client to the network service `service`.
    fn link(&mut self) -> Outcome<Link> {
        let client = Client::builder(VISITOR, self.identity(VISITOR)?, &self.nsmgr, &self.tasks)
            .with(mechanism::Client::new(Names::new(|_| false)))
            .with(send_fd::Client::new(netns()?))
            .build();
        let url = "kernel://service/nsm-1".parse().map_err(|error| format!("{error}"))?;
        Ok(client.map_err(|error| error.to_string())?.connect(&url))
    }
}

/// The connection of a link, once it is established through the control plane.
async fn up(link: &Link, last: &str) -> Outcome<std::sync::Arc<Connection>> {
    let up = timeout(TIMEOUT, link.up()).await;
    let up = up.map_err(|_| format!("not connected: {:?}", *link.state().borrow()))?;
    let up = up.map_err(|error| error.to_string())?;
    let names: Vec<_> = up.segments().iter().map(|segment| segment.name.as_str()).collect();
    let expected = [&[VISITOR][..], &HOPS, &[last]].concat();
    if names == expected { Ok(up) } else { Err(format!("path {names:?}, want {expected:?}")) }
}

async fn closed(link: Link) -> Outcome<()> {
    let state = link.state();
    link.close(TIMEOUT).await.map_err(|error| error.to_string())?;
    let last = state.borrow().clone();
    if last == LinkState::Closed { Ok(()) } else { Err(format!("{last:?}")) }
}

#[tokio::test]
async fn a_go_client_connects_to_an_endpoint_of_the_sdk() -> Outcome<()> {
    let mut stage = Stage::new().await?;
    let endpoint = stage.endpoint().await?;
    let manager = stage.node.manager();
    let callee = Callee { address: &manager, hops: &[HOPS[0], HOPS[1], SERVER], netns: None };
    connects_refreshes_and_closes(&mut stage.node, callee).await?;
    if !endpoint.connections().is_empty() {
        return Err("a connection is left after the Close".to_owned());
    }
    endpoint.stop(Duration::from_secs(5)).await;
    stage.tasks.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_client_of_the_sdk_connects_to_a_go_endpoint() -> Outcome<()> {
    let mut stage = Stage::new().await?;
    let manager = stage.node.manager();
    let mut endpoint = stage.node.run("endpoint", "endpoint", Netns::Own, &["-connect", &manager])?;
    endpoint.event("registered", START_TIMEOUT).await?;
    let link = stage.link()?;
    up(&link, "endpoint").await?;
    endpoint.event("request", TIMEOUT).await?;
    closed(link).await?;
    endpoint.event("close", TIMEOUT).await?;
    stage.tasks.stop().await;
    Ok(())
}

#[tokio::test]
async fn client_and_endpoint_of_the_sdk_meet_through_go_managers() -> Outcome<()> {
    let mut stage = Stage::new().await?;
    let endpoint = stage.endpoint().await?;
    let link = stage.link()?;
    let connection = up(&link, SERVER).await?;
    let addresses = connection.ip_context().map(|ip| ip.src_ip_addrs.clone());
    if addresses != Some(vec!["172.16.1.1/32".to_owned()]) {
        return Err(format!("addresses {addresses:?}"));
    }
    closed(link).await?;
    if !endpoint.connections().is_empty() {
        return Err("a connection is left after the Close".to_owned());
    }
    endpoint.stop(Duration::from_secs(5)).await;
    stage.tasks.stop().await;
    Ok(())
}
