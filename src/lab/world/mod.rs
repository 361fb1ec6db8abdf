// SPDX-License-Identifier: Apache-2.0
//! Everything of a run: the pods, what runs in them, and what counts.

pub mod balance;
pub mod fabric;
pub mod lb;
mod proxy;
pub mod target;

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use tonic::service::Routes;

use self::{fabric::Fabric, lb::Lb, target::Target};
use crate::{
    chain::Tasks,
    ipam::Tree,
    lab::{
        control_plane::{ControlPlane, forwarder::Forwarder, ipam::Ipam, nsp::Nsp},
        error::{Doing, LabError},
        identity::agent::Agent,
        pods::{
            ground::Ground,
            hosted::Hosted,
            pod::{Pod, Process},
        },
        topology::{CONDUIT, IPAM_PORT, NSP_PORT, TRENCH, Topology},
        traffic::{echo::Echo, leak::LeakCounter},
    },
    transport,
};

/// How long a registration may take.
pub const REGISTER: Duration = Duration::from_secs(10);
/// How long nsmgr and registry may take to start, programs of others on a busy machine, and the forwarder to register.
const START: Duration = Duration::from_secs(30);
/// Lines of their logs that are shown if they do not.
const LOG: usize = 20;
/// A run's world.
pub struct World {
    /// Its description.
    pub topology: Topology,
    /// Its pods.
    pub fabric: Fabric,
    /// Identities.
    pub agent: Agent,
    /// nsmgr and registry.
    pub control: ControlPlane,
    /// The forwarder.
    pub forwarder: Forwarder,
    /// IPAM.
    pub ipam: Ipam,
    /// NSP.
    pub nsp: Nsp,
    /// Packets with a VIP as source, at the far end of the proxy's primary link.
    pub leak: LeakCounter,
    /// Load balancers that run.
    pub lbs: Vec<Lb>,
    /// Targets that are there.
    pub targets: Vec<Target>,
    /// The proxy, if it runs.
    pub proxy: Option<Process>,
    /// Background tasks of identities.
    pub tasks: Tasks,
    /// Answers of the targets.
    pub echoes: Vec<Echo>,
    ground: Ground,
    services: Vec<Hosted>,
}

impl World {
    /// Build the network, and start what does not depend on the proxy: nsmgr (with `peers` NSM's own), forwarder and IPAM.
    ///
    /// # Errors
    /// What could not be started.
    pub async fn build(topology: &Topology, ground: &Ground, peers: bool) -> Result<Self, LabError> {
        let fabric = Fabric::build(topology, ground).await?;
        let (tasks, mut agent) = (Tasks::default(), Agent::new()?);
        let folder = |name: &str| ground.folder(name).doing(|| format!("make the folder of {name}"));

        let control = ControlPlane::start(&fabric.node, ground, &mut agent, &tasks, peers)?;
        let identity = agent.identity("forwarder", &folder("forwarder")?, &tasks)?;
        let forwarder = Forwarder::start(&fabric.node, &control.target, identity)?;
        if let Err(error) = forwarder.registered(START).await {
            if let Some(tail) = control.tail(LOG) {
                eprintln!("\nThe last words of registry and nsmgr:\n{tail}\n");
            }
            return Err(error);
        }

        let tree = Tree::new(TRENCH);
        tree.add_conduit(CONDUIT).doing(|| format!("add conduit {CONDUIT}"))?;
        let (ipam, nsp) = (Ipam::new(tree), Nsp::new(TRENCH));
        let mut every_vip: Vec<IpNet> = topology.vips().into_iter().map(IpNet::from).collect();
        every_vip.extend(topology.spare_vips().into_iter().map(IpNet::from));
        let leak = LeakCounter::start(&fabric.outside.netns, every_vip);
        let leak = leak.doing(|| "count packets at the far end of the primary link".into())?;
        let (lbs, targets, echoes, services) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (topology, ground) = (topology.clone(), ground.clone());
        let mut world = Self {
            topology,
            fabric,
            agent,
            control,
            forwarder,
            ipam,
            nsp,
            leak,
            lbs,
            targets,
            proxy: None,
            tasks,
            echoes,
            ground,
            services,
        };
        let routes = Routes::new(world.ipam.service());
        world.serve("ipam", IPAM_PORT, routes)?;
        Ok(world)
    }

    /// Serve NSP, with whatever lists it has then.
    ///
    /// # Errors
    /// The port is taken.
    pub fn serve_nsp(&mut self) -> Result<(), LabError> {
        let routes = Routes::new(self.nsp.configuration_manager()).add_service(self.nsp.target_registry());
        self.serve("nsp", NSP_PORT, routes)
    }

    /// Serve on a port of the primary network.
    fn serve(&mut self, name: &str, port: u16, routes: Routes) -> Result<(), LabError> {
        let folder = self.ground.folder(name).doing(|| format!("make the folder of {name}"))?;
        let identity = self.agent.identity(name, &folder, &self.tasks)?;
        let target = transport::Target::Tcp(format!("{}:{port}", self.services_at()));
        self.services.push(Hosted::start(&self.fabric.outside.netns, &target, identity, routes)?);
        Ok(())
    }

    /// Address of IPAM and NSP.
    fn services_at(&self) -> IpAddr {
        let [outside, _] = self.topology.primary_cable();
        outside.first().map_or(IpAddr::from([127, 0, 0, 1]), IpNet::addr)
    }

    /// Start a load balancer, by its number from 0, and wait until it is registered.
    ///
    /// # Errors
    /// What could not be started.
    pub async fn start_lb(&mut self, number: usize) -> Result<(), LabError> {
        let pod = self.fabric.lbs.get(number).ok_or("there is none");
        let pod = pod.doing(|| format!("start load balancer {number}"))?;
        let identity = self.agent.identity(&pod.name, &pod.folder, &self.tasks)?;
        let [client, _] = self.topology.client_cable(number + 1);
        let vips = self.topology.vips().into_iter().chain(self.topology.spare_vips()).collect();
        let lb = Lb::start(pod, &self.control.target, identity, &client, vips).await?;
        lb.registered(REGISTER).await?;
        self.lbs.push(lb);
        Ok(())
    }

    /// A target in a pod, not connected yet.
    ///
    /// # Errors
    /// What could not be started.
    pub fn guest_target(&mut self, pod: &Pod) -> Result<Target, LabError> {
        let identity = self.agent.identity(&pod.name, &pod.folder, &self.tasks)?;
        Target::new(pod, &self.control.target, identity)
    }

    /// Add the target of a number, from 0, not connected yet.
    ///
    /// # Errors
    /// What could not be started.
    pub fn add_target(&mut self, number: usize) -> Result<(), LabError> {
        let pod = self.fabric.targets.get(number).ok_or("there is none");
        let pod = pod.doing(|| format!("start target {number}"))?;
        let identity = self.agent.identity(&pod.name, &pod.folder, &self.tasks)?;
        self.targets.push(Target::new(pod, &self.control.target, identity)?);
        Ok(())
    }

    /// One more pod, for a target that comes later.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn guest(&self, name: &str) -> Result<Pod, LabError> {
        Pod::new(name, &self.ground).await
    }

    /// Let the load balancers balance over all targets that are connected.
    pub fn balance(&self) {
        let addresses: Vec<IpAddr> =
            self.targets.iter().flat_map(Target::addresses).map(|net| net.addr()).collect();
        for lb in &self.lbs {
            lb.set_targets(addresses.clone());
        }
    }

    /// Stop every server. What is left is counted.
    ///
    /// # Errors
    /// The registry did not say what it has.
    pub async fn stop(mut self) -> Result<Stopped, LabError> {
        for target in self.targets.drain(..) {
            target.stop().await;
        }
        for lb in self.lbs.drain(..) {
            lb.stop().await;
        }
        drop(self.echoes);
        let connections = [self.control.connections(), Some(self.forwarder.connections.len())];
        let endpoints = self.control.endpoints().await;
        self.forwarder.stop().await;
        self.control.stop().await;
        for service in self.services.drain(..) {
            service.stop().await;
        }
        self.tasks.stop().await;
        let endpoints = endpoints?.len().saturating_sub(1); // but for the forwarder itself
        Ok(Stopped { fabric: self.fabric, ipam: self.ipam, connections, endpoints })
    }
}

/// What is left of a world when everything has been stopped: its pods, and what they may still hold.
pub struct Stopped {
    /// The pods.
    pub fabric: Fabric,
    /// IPAM's tree.
    pub ipam: Ipam,
    /// Connections that nsmgr and forwarder still had, as far as that can be seen.
    pub connections: [Option<usize>; 2],
    /// Endpoints that were still registered.
    pub endpoints: usize,
}
