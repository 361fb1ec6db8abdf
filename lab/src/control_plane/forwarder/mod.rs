// SPDX-License-Identifier: Apache-2.0
//! A forwarder that joins pods by veth pairs: the framework's second user.
//!
//! Its chain is an endpoint's, with the elements of a hop in the middle. It makes links solely from
//! the Connections and descriptors that it receives; it does not know the topology.

mod find;
mod link;
mod policy;
mod veth;
mod wiring;

use std::time::Duration;

use self::find::FindEndpoint;
pub use self::{
    policy::Policy,
    veth::Veth,
    wiring::{Side, Wired, Wirer, Wiring},
};
use super::{
    clients,
    hop::{Hop, TOKEN_LIFETIME},
    nsmgr::FORWARDER_SERVICE,
    passthrough::{Relay, ReturnFd},
    registration::{self, Kept},
    superseded,
};
use crate::{
    error::{Doing, LabError},
    pods::{hosted::Hosted, pod::Pod, simulated::Simulated},
};
use nsm::{
    api::pb::registry::NetworkService,
    elements::recv_fd,
    server::{self, monitor::Connections},
    transport::{Address, Identity},
};

/// Labels that nsmgr requires of the forwarder of a network service with matches.
const LABELS: [(&str, &str); 1] = [("p2p", "true")];

/// A running forwarder. Dropped, it is killed: its links stay.
pub struct Forwarder {
    /// Connections that go through it.
    pub connections: Connections,
    process: Simulated,
    hop: Hop,
    hosted: Hosted,
    registration: Kept,
}

impl Forwarder {
    /// Listens in the pod's folder, and registers with nsmgr.
    ///
    /// # Errors
    /// The socket is taken.
    pub fn start(pod: &Pod, nsmgr: &Address, identity: Identity) -> Result<Self, LabError> {
        let process = Simulated::start("forwarder").doing(|| "start the forwarder".into())?;
        let (connections, hop, hosted, registration) = process.within(|| serve(pod, nsmgr, identity))?;
        Ok(Self { connections, process, hop, hosted, registration })
    }

    /// Waits until it is registered with nsmgr.
    ///
    /// # Errors
    /// It is not registered within that time.
    pub async fn registered(&self, within: Duration) -> Result<(), LabError> {
        self.registration.registered(within).await
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Simulated {
        &mut self.process
    }

    /// Number of clients with a connection.
    pub fn clients(&self) -> usize {
        clients(&self.connections)
    }

    /// Number of connections that their client has made again, because both its process and nsmgr
    /// had died. They last until their token expires.
    pub fn superseded(&self) -> usize {
        superseded(&self.connections)
    }

    /// Unregisters and ends. Remaining links are removed.
    pub async fn stop(self) {
        self.registration.unregister().await;
        self.hosted.stop().await;
        self.hop.tasks.stop().await;
        drop(self.process);
    }
}

fn serve(
    pod: &Pod,
    nsmgr: &Address,
    identity: Identity,
) -> Result<(Connections, Hop, Hosted, Kept), LabError> {
    let hop = Hop::new("forwarder");
    let dialer = registration::dialer(nsmgr, &identity);
    let connections = Connections::default();
    let chain = hop
        .pass_through(&connections)
        .with(ReturnFd)
        .with(recv_fd::Endpoint)
        .with(FindEndpoint::new(dialer.clone()))
        .with(Veth::new(Wirer::new(hop.tasks.clone())))
        .with(recv_fd::Client)
        .with(Relay::new(identity.clone(), TOKEN_LIFETIME))
        .build();
    let chain = chain.doing(|| "build the chain of the forwarder".into())?;
    let socket = pod.folder.join("listen.on");
    let routes = server::Endpoint::new(chain, connections.clone()).routes();
    let hosted =
        Hosted::start_with_descriptors(&pod.netns, &Address::Unix(socket.clone()), identity, routes)?;
    let service =
        NetworkService { name: FORWARDER_SERVICE.into(), payload: "ETHERNET".into(), ..Default::default() };
    let registration = Kept::start(dialer, &hop.name, &LABELS, service, socket);
    Ok((connections, hop, hosted, registration))
}
