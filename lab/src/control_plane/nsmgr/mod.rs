// SPDX-License-Identifier: Apache-2.0
//! An nsmgr with its registry: the socket of the node, which every pod calls.
//!
//! Its chain is an endpoint's, in the middle of a path: Requests go on to the forwarder, which is
//! registered like any endpoint.

mod find;

use std::path::Path;

use tonic::service::Routes;

use self::find::FindForwarder;
use super::{
    hop::{Hop, TOKEN_LIFETIME},
    passthrough::{Relay, ReturnFd},
    registry::{Endpoints, Services},
};
use crate::{
    error::{Doing, LabError},
    pods::{hosted::Hosted, pod::Pod, simulated::Simulated},
};
use nsm::{
    api::pb::registry::{
        network_service_endpoint_registry_server::NetworkServiceEndpointRegistryServer,
        network_service_registry_server::NetworkServiceRegistryServer,
    },
    elements::recv_fd,
    server::{self, monitor::Connections},
    transport::{Address, Identity},
};

/// Name of the service under which forwarders are registered.
pub const FORWARDER_SERVICE: &str = "forwarder";

/// The parts of nsmgr inside its process.
type Served = (Address, Endpoints, Connections, Services, Hop, Hosted);

/// Name of the socket, in a folder that every pod of the node can access.
pub const SOCKET: &str = "nsm.io.sock";

/// A running nsmgr. Dropped, it is killed; all registrations are forgotten.
pub struct Nsmgr {
    /// Its address.
    pub target: Address,
    /// The registered endpoints.
    pub endpoints: Endpoints,
    /// Connections that go through it.
    pub connections: Connections,
    services: Services,
    process: Simulated,
    hop: Hop,
    hosted: Hosted,
}

impl Nsmgr {
    /// Listens at [`SOCKET`] in an existing folder.
    ///
    /// # Errors
    /// The socket is taken.
    pub fn start(pod: &Pod, folder: &Path, node: &str, identity: Identity) -> Result<Self, LabError> {
        let process = Simulated::start("nsmgr").doing(|| "start nsmgr".into())?;
        let (target, endpoints, connections, services, hop, hosted) =
            process.within(|| Self::serve(pod, folder, node, identity))?;
        Ok(Self { target, endpoints, connections, services, process, hop, hosted })
    }

    fn serve(pod: &Pod, folder: &Path, node: &str, identity: Identity) -> Result<Served, LabError> {
        let hop = Hop::new("nsmgr");
        let endpoints = Endpoints::new(node, &hop.tasks);
        let services = Services::default();
        let connections = Connections::default();
        let find = FindForwarder::new(node, services.clone(), endpoints.clone());
        let chain = hop.pass_through(&connections).with(ReturnFd).with(recv_fd::Endpoint).with(find);
        let chain = chain.with(Relay::new(identity.clone(), TOKEN_LIFETIME)).build();
        let chain = chain.doing(|| "build the chain of nsmgr".into())?;

        let routes: Routes = server::Endpoint::new(chain, connections.clone()).routes();
        let routes = routes
            .add_service(NetworkServiceRegistryServer::new(services.clone()))
            .add_service(NetworkServiceEndpointRegistryServer::new(endpoints.clone()));
        let target = Address::Unix(folder.join(SOCKET));
        let hosted = Hosted::start_with_descriptors(&pod.netns, &target, identity, routes)?;
        Ok((target, endpoints, connections, services, hop, hosted))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Simulated {
        &mut self.process
    }

    /// Ends it: streams end, everything registered is forgotten.
    pub async fn stop(self) {
        self.endpoints.stop.cancel();
        self.services.stop.cancel();
        self.hosted.stop().await;
        self.hop.tasks.stop().await;
        drop(self.process);
    }
}
