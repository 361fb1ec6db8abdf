// SPDX-License-Identifier: Apache-2.0
//! The world of a run: the pods, their components, and the counters.

pub mod answered;
pub mod balance;
pub mod components;
pub mod datapath;
pub mod fabric;
pub mod foreign;
pub mod lb;
pub mod mishaps;
pub mod proxy;
pub mod target;

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;

use self::{
    components::{Component, Service, services_at},
    fabric::Fabric,
    lb::{Lb, Withdrawn},
    proxy::Proxy,
    target::Target,
};
use crate::{
    control_plane::{ControlPlane, collector::Collector, forwarder::Forwarder, ipam::Ipam, nsp::Nsp},
    error::{Doing, LabError},
    identity::agent::Agent,
    pods::{ground::Ground, pod::Pod},
    topology::{self, CONDUIT, TRENCH, Topology},
    traffic::{echo::Echo, leak::LeakCounter},
};
use nsm::{ipam::Tree, task::Tasks};

/// Timeout of a registration.
pub const REGISTER: Duration = Duration::from_secs(10);
/// Timeout for the start of nsmgr and registry, which may be external programs on a busy machine,
/// and for the forwarder's registration.
const START: Duration = Duration::from_secs(30);
/// Number of lines of their logs that are shown if they do not.
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
    /// The collector of spans, if it runs.
    pub collector: Option<Collector>,
    /// The forwarder, if it runs.
    pub forwarder: Option<Forwarder>,
    /// Connections at the forwarder that no client can close, counted before all others are closed.
    pub superseded: usize,
    /// IPAM.
    pub ipam: Ipam,
    /// NSP.
    pub nsp: Nsp,
    /// Packets with a VIP as source, at the far end of the proxy's primary link.
    pub leak: LeakCounter,
    /// Load balancers that run, by their numbers from 0.
    pub lbs: BTreeMap<usize, Lb>,
    /// Load balancers that have left, and are not stopped yet.
    withdrawn: BTreeMap<usize, Withdrawn>,
    /// Load balancers that hang.
    hung: BTreeMap<usize, Lb>,
    /// Present targets.
    pub targets: Vec<Target>,
    /// Proxies, one for each node.
    pub proxies: Vec<Proxy>,
    /// Background tasks of identities.
    pub tasks: Tasks,
    /// Answers of the targets.
    pub echoes: Vec<Echo>,
    ground: Ground,
    /// The program of the proxies.
    program: &'static str,
    services: BTreeMap<Component, Service>,
}

impl World {
    /// Builds the network, and starts the components that do not depend on the proxy: nsmgr (with
    /// `peers` NSM's own), forwarder and IPAM.
    ///
    /// # Errors
    /// The component that could not be started.
    pub async fn build(
        topology: &Topology,
        ground: &Ground,
        peers: bool,
        program: &'static str,
    ) -> Result<Self, LabError> {
        let fabric = Fabric::build(topology, ground).await?;
        let tasks = Tasks::default();
        let mut agent = Agent::new()?;
        let collector = Collector::start(&fabric.outside, services_at(topology))?;
        let control = ControlPlane::start(&fabric.node, ground, &mut agent, &tasks, peers)?;
        let tree = Tree::new(TRENCH);
        tree.add_conduit(CONDUIT).doing(|| format!("add conduit {CONDUIT}"))?;
        let mut every_vip: Vec<IpNet> = topology.vips().into_iter().map(IpNet::from).collect();
        every_vip.extend(topology.spare_vips().into_iter().map(IpNet::from));
        let leak = LeakCounter::start(&fabric.outside.netns, every_vip);
        let leak = leak.doing(|| "count packets at the far end of the primary link".into())?;
        let mut world = Self {
            topology: topology.clone(),
            fabric,
            agent,
            control,
            collector,
            forwarder: None,
            superseded: 0,
            ipam: Ipam::new(tree),
            nsp: Nsp::new(TRENCH),
            leak,
            lbs: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            hung: BTreeMap::new(),
            targets: Vec::new(),
            proxies: topology.node_numbers().map(Proxy::new).collect(),
            tasks,
            echoes: Vec::new(),
            ground: ground.clone(),
            program,
            services: BTreeMap::new(),
        };
        world.start_forwarder().await?;
        world.start(Component::Ipam)?;
        Ok(world)
    }

    async fn start_forwarder(&mut self) -> Result<(), LabError> {
        self.start(Component::Forwarder)?;
        let Some(forwarder) = &self.forwarder else { return Ok(()) };
        let registered = forwarder.registered(START).await;
        if registered.is_err()
            && let Some(tail) = self.control.tail(LOG)
        {
            eprintln!("\nThe last words of registry and nsmgr:\n{tail}\n");
        }
        registered
    }

    /// Starts a load balancer, by its number from 0, and waits until it is registered.
    ///
    /// # Errors
    /// The component that could not be started.
    pub async fn start_lb(&mut self, number: usize) -> Result<(), LabError> {
        let pod = self.fabric.lbs.get(number).ok_or("there is none");
        let pod = pod.doing(|| format!("start load balancer {number}"))?;
        let identity = self.agent.identity(&pod.name, &pod.folder, &self.tasks)?;
        let [client, _] = self.topology.client_cable(number + 1);
        let vips = self.topology.vips().into_iter().chain(self.topology.spare_vips()).collect();
        let lb = Lb::start(pod, &self.control.target, identity, &client, vips).await?;
        lb.registered(REGISTER).await?;
        self.lbs.insert(number, lb);
        self.balance();
        Ok(())
    }

    /// Numbers of the load balancers that run.
    pub fn lb_numbers(&self) -> Vec<usize> {
        self.lbs.keys().copied().collect()
    }

    /// Checks that nsmgr, forwarder and load balancers have a connection for each target and for
    /// each pair of proxy and load balancer.
    ///
    /// # Errors
    /// Names the first that has another number.
    pub fn has_all_connections(&self) -> Result<(), String> {
        let targets = self.targets.len();
        let lbs = self.lbs.len();
        let proxies = self.proxies.len();
        let forwarder = self.forwarder.as_ref().map(Forwarder::clients);
        let passed = [("nsmgr", self.control.connections()), ("the forwarder", forwarder)];
        let passed =
            passed.into_iter().filter_map(|(name, count)| Some((name, count?, targets + lbs * proxies)));
        let of_lbs = self.lbs.values().map(|lb| (lb.name.as_str(), lb.clients(), proxies));
        match passed.chain(of_lbs).find(|(_, count, wanted)| count != wanted) {
            None => Ok(()),
            Some((name, count, wanted)) => Err(format!("{name} has {count} connections instead of {wanted}")),
        }
    }

    /// A target in a pod, not connected yet.
    ///
    /// # Errors
    /// The component that could not be started.
    pub fn guest_target(&mut self, pod: &Pod) -> Result<Target, LabError> {
        let identity = self.agent.identity(&pod.name, &pod.folder, &self.tasks)?;
        Target::new(pod, topology::NODE, &self.control.target, identity)
    }

    /// Adds the target of a number, from 0, not connected yet.
    ///
    /// # Errors
    /// The component that could not be started.
    pub fn add_target(&mut self, number: usize) -> Result<(), LabError> {
        let pod = self.fabric.targets.get(number).ok_or("there is none");
        let pod = pod.doing(|| format!("start target {number}"))?;
        let identity = self.agent.identity(&pod.name, &pod.folder, &self.tasks)?;
        let node = topology::node(self.topology.node_of(number));
        self.targets.push(Target::new(pod, &node, &self.control.target, identity)?);
        Ok(())
    }

    /// One more pod, for a target that comes later.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn guest(&self, name: &str) -> Result<Pod, LabError> {
        Pod::new(name, &self.ground).await
    }

    /// Lets the load balancers balance over the targets, also when their addresses move.
    pub fn balance(&self) {
        let targets: Vec<_> = self.targets.iter().map(Target::follow).collect();
        for lb in self.lbs.values().chain(self.hung.values()) {
            lb.set_targets(targets.clone());
        }
    }

    /// Stops every server. The leftovers are counted.
    ///
    /// # Errors
    /// The registry did not list its entries.
    pub async fn stop(mut self) -> Result<Stopped, LabError> {
        for target in self.targets.drain(..) {
            target.stop().await;
        }
        self.hung.clear();
        for left in std::mem::take(&mut self.withdrawn).into_values() {
            left.stop().await;
        }
        for lb in std::mem::take(&mut self.lbs).into_values() {
            lb.stop().await;
        }
        drop(self.echoes);
        let forwarded = self.forwarder.as_ref().map(|forwarder| forwarder.connections.len());
        let forwarded = forwarded.map(|left| left.saturating_sub(self.superseded));
        let connections = [self.control.connections(), forwarded];
        let endpoints = self.control.endpoints().await;
        if let Some(forwarder) = self.forwarder {
            forwarder.stop().await;
        }
        self.control.stop().await;
        for service in self.services.into_values() {
            service.stop().await;
        }
        self.tasks.stop().await;
        let endpoints = endpoints?.len().saturating_sub(1); // except the forwarder itself
        Ok(Stopped { fabric: self.fabric, ipam: self.ipam, connections, endpoints })
    }
}

/// The rest of a world when everything has been stopped: its pods, and the resources that they may
/// still hold.
pub struct Stopped {
    /// The pods.
    pub fabric: Fabric,
    /// IPAM's tree.
    pub ipam: Ipam,
    /// Connections that nsmgr and forwarder still had, as far as visible.
    pub connections: [Option<usize>; 2],
    /// Endpoints that were still registered.
    pub endpoints: usize,
}
