// SPDX-License-Identifier: Apache-2.0
//! Kills a component around the proxy and starts it again.
//!
//! Each is a simulated process: a kill cuts every connection. IPAM and NSP keep their data, as the
//! real ones keep it in databases; nsmgr forgets all registrations; the links that the forwarder
//! made stay.

use std::net::IpAddr;

use ipnet::IpNet;
use tonic::service::Routes;

use super::World;
use crate::{
    control_plane::forwarder::Forwarder,
    error::{Doing, LabError},
    pods::{hosted::Hosted, simulated::Simulated},
    topology::{IPAM_PORT, NSP_PORT, Topology},
};
use nsm::transport;

/// A component around the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// nsmgr with its registry.
    Nsmgr,
    /// The forwarder.
    Forwarder,
    /// IPAM.
    Ipam,
    /// NSP.
    Nsp,
    /// SPIRE's agent: the Workload API of every pod.
    WorkloadApi,
}

/// A running IPAM or NSP.
pub(super) struct Service {
    process: Simulated,
    hosted: Hosted,
}

impl Service {
    pub(super) async fn stop(self) {
        self.hosted.stop().await;
        drop(self.process);
    }
}

impl World {
    /// Kills a component.
    pub fn kill(&mut self, component: Component) {
        match component {
            Component::Nsmgr => self.control.kill(),
            Component::Forwarder => self.forwarder = None,
            Component::Ipam | Component::Nsp => drop(self.services.remove(&component)),
            Component::WorkloadApi => self.agent.kill(),
        }
    }

    /// Stops a component, which then does not answer while its connections stay, or lets it
    /// continue.
    ///
    /// # Errors
    /// It does not run, or is a program of NSM's sdk.
    pub fn hang(&mut self, component: Component, hangs: bool) -> Result<(), LabError> {
        let process = match component {
            Component::Nsmgr => self.control.process(),
            Component::Forwarder => self.forwarder.as_mut().map(Forwarder::process),
            Component::Ipam | Component::Nsp => self.services.get_mut(&component).map(|it| &mut it.process),
            Component::WorkloadApi => self.agent.process(),
        };
        process.ok_or("it is not there").doing(|| format!("stop {component:?}"))?.hang(hangs);
        Ok(())
    }

    /// Starts a component that does not run. Does not wait: it registers, and its peers find it
    /// again, by themselves.
    ///
    /// # Errors
    /// Its socket or port is taken.
    pub fn start(&mut self, component: Component) -> Result<(), LabError> {
        let Self { control, fabric, ground, agent, tasks, .. } = self;
        match component {
            Component::Nsmgr => control.start_again(&fabric.node, ground, agent, tasks),
            Component::Forwarder => {
                let folder =
                    ground.folder("forwarder").doing(|| "make the folder of the forwarder".into())?;
                let identity = agent.identity("forwarder", &folder, tasks)?;
                self.forwarder = Some(Forwarder::start(&fabric.node, &control.target, identity)?);
                Ok(())
            }
            Component::Ipam => self.serve(component, "ipam", IPAM_PORT, Routes::new(self.ipam.service())),
            Component::Nsp => {
                let routes = Routes::new(self.nsp.configuration_manager());
                self.serve(component, "nsp", NSP_PORT, routes.add_service(self.nsp.target_registry()))
            }
            Component::WorkloadApi => agent.start_again(),
        }
    }

    /// Serves on a port of the primary network.
    fn serve(&mut self, component: Component, name: &str, port: u16, routes: Routes) -> Result<(), LabError> {
        let folder = self.ground.folder(name).doing(|| format!("make the folder of {name}"))?;
        let identity = self.agent.identity(name, &folder, &self.tasks)?;
        let target = transport::Address::Tcp(format!("{}:{port}", self.services_at()));
        let process = Simulated::start(name).doing(|| format!("start {name}"))?;
        let netns = &self.fabric.outside.netns;
        let hosted = process.within(|| Hosted::start(netns, &target, identity, routes))?;
        self.services.insert(component, Service { process, hosted });
        Ok(())
    }

    /// Address of IPAM and NSP.
    pub(super) fn services_at(&self) -> IpAddr {
        services_at(&self.topology)
    }
}

/// Address of the services in a network.
pub(super) fn services_at(topology: &Topology) -> IpAddr {
    let [outside, _] = topology.primary_cable(0);
    outside.first().map_or(IpAddr::from([127, 0, 0, 1]), IpNet::addr)
}
