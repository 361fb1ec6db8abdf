// SPDX-License-Identifier: Apache-2.0
//! NSM's and Meridio's components around the proxy; nsmgr and registry of the node are either the
//! lab's own, or NSM's in Go.
//!
//! Both serve the same socket, and no peer can distinguish them. The lab queries the registry as a
//! separate pod, with an identity that has registered nothing.

pub mod collector;
pub mod forwarder;
pub mod hop;
pub mod ipam;
pub mod nsmgr;
pub mod nsp;
pub mod passthrough;
pub mod peers;
pub mod registration;
pub mod registry;

use std::{collections::BTreeSet, path::Path, time::Duration};

use futures::{StreamExt, TryStreamExt};

use self::{
    nsmgr::{Nsmgr, SOCKET},
    peers::{PROGRAMS, Peers},
    registration::dialer,
};
use crate::{
    error::{Doing, LabError},
    identity::agent::Agent,
    pods::{ground::Ground, pod::Pod, simulated::Simulated},
    topology::NODE,
};
use nsm::{
    api::pb::registry::{NetworkService, NetworkServiceEndpoint},
    registry::{Client, Registry, ServiceOwner, ensure},
    server::monitor::Connections,
    task::Tasks,
    transport::Address,
};

/// Name of the pod of nsmgr, in whose folder its socket is.
pub const NSMGR: &str = "nsmgr";
/// Name of the pod that queries the registry.
const OBSERVER: &str = "observer";
/// Timeout of one query.
const ASK: Duration = Duration::from_secs(5);
/// Maximum number of endpoints read.
const MAX_ENDPOINTS: usize = 4096;

/// Number of clients that have a connection. A client that has made its connection again has two:
/// the former one lasts until its token expires if a hop before this one lost it.
pub fn clients(connections: &Connections) -> usize {
    let ids = connections.ids(|_| true);
    let all = ids.iter().filter_map(|id| connections.get(id));
    let clients: BTreeSet<_> = all.map(|connection| connection.client_id().to_owned()).collect();
    clients.len()
}

/// Number of connections beyond one for each client. Their clients have made them again and cannot
/// close them: they last until their token expires.
pub fn superseded(connections: &Connections) -> usize {
    connections.len().saturating_sub(clients(connections))
}

/// nsmgr and registry of the node.
pub struct ControlPlane {
    /// The socket that every pod calls.
    pub target: Address,
    registry: Client,
    ours: bool,
    running: Option<Running>,
}

enum Running {
    Ours(Box<Nsmgr>),
    Peers(Box<Peers>),
}

impl ControlPlane {
    /// Starts it on the node: the lab's own, or with `peers` the Go programs that were put into
    /// place.
    ///
    /// # Errors
    /// The socket is taken, or a program does not start.
    pub fn start(
        node: &Pod,
        ground: &Ground,
        agent: &mut Agent,
        tasks: &Tasks,
        peers: bool,
    ) -> Result<Self, LabError> {
        let folder = |name: &str| ground.folder(name).doing(|| format!("make the folder of {name}"));
        let target = Address::Unix(folder(NSMGR)?.join(SOCKET));
        let observer = agent.identity(OBSERVER, &folder(OBSERVER)?, tasks)?;
        let registry = Client::new(dialer(&target, &observer), ASK);
        let mut control = Self { target, registry, ours: !peers, running: None };
        control.start_again(node, ground, agent, tasks)?;
        Ok(control)
    }

    /// Starts it again after [`kill`](Self::kill), with nothing registered.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn start_again(
        &mut self,
        node: &Pod,
        ground: &Ground,
        agent: &mut Agent,
        tasks: &Tasks,
    ) -> Result<(), LabError> {
        self.running = Some(if self.ours {
            let folder = ground.folder(NSMGR).doing(|| format!("make the folder of {NSMGR}"))?;
            let identity = agent.identity(NSMGR, &folder, tasks)?;
            Running::Ours(Box::new(Nsmgr::start(node, &folder, NODE, identity)?))
        } else {
            Running::Peers(Box::new(Peers::start(Path::new(PROGRAMS), node, &self.target, agent)?))
        });
        Ok(())
    }

    /// Kills nsmgr and registry.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// The process of the lab's own nsmgr, if it runs.
    pub fn process(&mut self) -> Option<&mut Simulated> {
        match &mut self.running {
            Some(Running::Ours(nsmgr)) => Some(nsmgr.process()),
            Some(Running::Peers(_)) | None => None,
        }
    }

    /// Names of the endpoints that are registered.
    ///
    /// # Errors
    /// The registry did not answer.
    pub async fn endpoints(&self) -> Result<Vec<String>, LabError> {
        let found = self.registry.find(NetworkServiceEndpoint::default(), false).await;
        let found = found.doing(|| "ask the registry".into())?.take(MAX_ENDPOINTS);
        let found: Vec<_> = found.try_collect().await.doing(|| "read what the registry has".into())?;
        Ok(found.into_iter().filter_map(|one| Some(one.network_service_endpoint?.name)).collect())
    }

    /// Registers a network service that a pod has registered already, as another pod.
    ///
    /// # Errors
    /// That pod could not continue.
    pub async fn register_again(&self, service: &NetworkService) -> Result<ServiceOwner, LabError> {
        ensure(&self.registry, service).await.doing(|| format!("register {} again", service.name))
    }

    /// Connections that go through nsmgr; `None` if only their owners may see them.
    pub fn connections(&self) -> Option<usize> {
        match &self.running {
            Some(Running::Ours(nsmgr)) => Some(nsmgr.connections.len()),
            Some(Running::Peers(_)) | None => None,
        }
    }

    /// The last lines of the Go programs' logs.
    pub fn tail(&self, lines: usize) -> Option<String> {
        match &self.running {
            Some(Running::Peers(peers)) => Some(peers.tail(lines)),
            Some(Running::Ours(_)) | None => None,
        }
    }

    /// Ends it.
    pub async fn stop(self) {
        match self.running {
            Some(Running::Ours(nsmgr)) => nsmgr.stop().await,
            Some(Running::Peers(peers)) => peers.stop().await,
            None => {}
        }
    }
}
