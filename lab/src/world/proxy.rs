// SPDX-License-Identifier: Apache-2.0
//! Starts the proxy as a separate process, which cannot distinguish the lab from a cluster.

use std::{net::IpAddr, path::PathBuf, process::Output};

use super::World;
use crate::{
    control_plane::{self, collector::Collector},
    error::{Doing, LabError},
    identity::agent,
    pods::{
        ground::PROXY,
        pod::{Pod, Process, Start},
    },
    topology::{
        self, CONDUIT, IPAM_PORT, MTU, NAMESPACE, NSP_PORT, TRENCH, Topology, lb_service, proxy_service,
    },
};
use nsm::{api::Family, proxy::health};

/// Folder of nsmgr's socket in the proxy's pod.
const NSM: &str = "/run/nsm";
/// Folder of the Workload API's socket in the proxy's pod.
const SPIRE: &str = "/run/spire/sockets";
/// Folder of that socket in the folder of the pod.
const SPIRE_FOLDER: &str = "spire";

/// The proxy of a node.
pub struct Proxy {
    /// Number of the node, from 0.
    pub node: usize,
    /// Its process, if it runs.
    pub process: Option<Process>,
}

impl Proxy {
    /// The proxy of a node, which does not run yet.
    pub fn new(node: usize) -> Self {
        Self { node, process: None }
    }

    /// Name of its endpoint.
    pub fn name(&self) -> String {
        topology::proxy(self.node)
    }

    /// Its process.
    ///
    /// # Errors
    /// It does not run.
    pub fn running(&mut self) -> Result<&mut Process, LabError> {
        let name = self.name();
        self.process.as_mut().ok_or("it does not run").doing(|| format!("find {name}"))
    }

    /// Takes its process in order to end it: for the lab it does not run any more.
    ///
    /// # Errors
    /// It does not run.
    pub fn ending(&mut self) -> Result<Process, LabError> {
        let name = self.name();
        self.process.take().ok_or("it does not run").doing(|| format!("end {name}"))
    }

    /// Its health socket, seen from here.
    pub fn health_socket(&self) -> PathBuf {
        let pid = self.process.as_ref().map_or(0, Process::pid);
        format!("/proc/{pid}/root{}", health::SOCKET).into()
    }
}

impl World {
    /// Starts the proxy of every node.
    ///
    /// # Errors
    /// One could not be started.
    pub fn start_proxies(&mut self) -> Result<(), LabError> {
        self.topology.node_numbers().try_for_each(|node| self.start_proxy(node))
    }

    /// The process of the first node's proxy.
    ///
    /// # Errors
    /// It does not run.
    pub fn first_proxy(&mut self) -> Result<&mut Process, LabError> {
        self.proxies.first_mut().ok_or("there is no node").doing(|| "find the proxy".into())?.running()
    }

    /// Whether the proxies are of another program.
    pub fn has_other_program(&self) -> bool {
        self.program != PROXY
    }

    /// Runs a command of the proxy's program in the first node's pod, as `kubectl exec` does.
    /// `None` if the proxies are of another program.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn ask_proxy(&self, command: &str) -> Result<Option<Output>, LabError> {
        if self.has_other_program() {
            return Ok(None);
        }
        let setting = self.setting(0)?;
        let arguments: Vec<_> = command.split_whitespace().collect();
        setting.start(self.program, &arguments).output(setting.pod).await.map(Some)
    }

    /// Starts the proxy of a node, as a separate process that has nothing but its documented
    /// variables.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_proxy(&mut self, node: usize) -> Result<(), LabError> {
        let name = topology::proxy(node);
        let pod = self.fabric.proxies.get(node).ok_or("there is none").doing(|| format!("start {name}"))?;
        self.agent.attest(&name, &pod.folder.join(SPIRE_FOLDER))?;
        let setting = self.setting(node)?;
        let process = Process::start(setting.pod, &setting.start(self.program, &[]))?;
        if let Some(proxy) = self.proxies.get_mut(node) {
            proxy.process = Some(process);
        }
        Ok(())
    }

    /// The pod of a node's proxy, with the environment and the mounts of its processes.
    fn setting(&self, node: usize) -> Result<Setting<'_>, LabError> {
        let services = self.services_at();
        let pod = self.fabric.proxies.get(node);
        let pod = pod.ok_or("there is none").doing(|| format!("find the proxy of node {node}"))?;
        let hosts = pod.folder.join("hosts");
        let names = format!("127.0.0.1 localhost\n{services} nsp-{TRENCH}.{NAMESPACE}\n");
        std::fs::write(&hosts, names).doing(|| "write the hosts file of the proxy".into())?;
        // As a volume of the pod, it also exists for the next process.
        let temporary = pod.state()?;
        let nsm = self.ground.folder(control_plane::NSMGR).doing(|| "find the folder of nsmgr".into())?;
        let mut environment = environment(&self.topology, node, services);
        environment.extend(self.collector.iter().flat_map(Collector::of_proxy));
        let spire = pod.folder.join(SPIRE_FOLDER);
        let mounts = [(spire, SPIRE), (nsm, NSM), (hosts, "/etc/hosts"), (temporary, "/tmp")];
        Ok(Setting { pod, environment, mounts })
    }
}

/// The pod of a proxy, and the documented variables and mounts: its processes have nothing else.
struct Setting<'a> {
    pod: &'a Pod,
    environment: Vec<(String, String)>,
    mounts: [(PathBuf, &'static str); 4],
}

impl Setting<'_> {
    /// A process of the program with these arguments.
    fn start<'b>(&'b self, program: &'b str, arguments: &'b [&'b str]) -> Start<'b> {
        Start {
            program: program.as_ref(),
            arguments,
            environment: &self.environment,
            mounts: &self.mounts,
            confined: true,
            log: "log",
        }
    }
}

fn environment(topology: &Topology, node: usize, services: IpAddr) -> Vec<(String, String)> {
    let family = match topology.families.as_slice() {
        [Family::V4] => "ipv4",
        [Family::V6] => "ipv6",
        _ => "dualstack",
    };
    let variables = [
        ("NSM_NAME", topology::proxy(node)),
        ("NSM_SERVICE_NAME", proxy_service()),
        ("NSM_CONNECT_TO", format!("unix://{NSM}/nsm.io.sock")),
        ("NSM_MAX_TOKEN_LIFETIME", "10m".to_owned()),
        ("NSM_IPAM_SERVICE", std::net::SocketAddr::new(services, IPAM_PORT).to_string()),
        ("NSM_HOST", topology::node(node)),
        ("NSM_NETWORK_SERVICE_NAME", lb_service()),
        ("NSM_NAMESPACE", NAMESPACE.to_owned()),
        ("NSM_TRENCH", TRENCH.to_owned()),
        ("NSM_CONDUIT", CONDUIT.to_owned()),
        ("NSM_NSP_SERVICE_NAME", "nsp".to_owned()),
        ("NSM_NSP_SERVICE_PORT", NSP_PORT.to_string()),
        ("NSM_IP_FAMILY", family.to_owned()),
        ("NSM_MTU", MTU.to_string()),
        ("SPIFFE_ENDPOINT_SOCKET", format!("unix://{SPIRE}/{}", agent::SOCKET)),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}
