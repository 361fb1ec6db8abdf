// SPDX-License-Identifier: Apache-2.0
//! Start the proxy as a process of its own, which cannot tell the lab from a cluster.

use std::{net::IpAddr, path::PathBuf};

use super::World;
use crate::{
    api::Family,
    lab::{
        control_plane,
        error::{Doing, LabError},
        identity::agent,
        pods::{
            ground,
            pod::{Process, Start},
        },
        topology::{
            self, CONDUIT, IPAM_PORT, MTU, NAMESPACE, NODE, NSP_PORT, TRENCH, Topology, lb_service,
            proxy_service,
        },
    },
    proxy::health,
};

/// Where the proxy finds the folder of nsmgr's socket.
const NSM: &str = "/run/nsm";
/// Where the proxy keeps its snapshot, so that it outlives a restart.
const STATE: &str = "/run/state";
/// Where the proxy finds the folder of its Workload API.
const SPIRE: &str = "/run/spire/sockets";

impl World {
    /// Start the proxy, as a process of its own that knows nothing but its documented variables.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_proxy(&mut self) -> Result<(), LabError> {
        let pod = &self.fabric.proxy;
        let spire = pod.folder.join("spire");
        self.agent.attest(topology::PROXY, &spire)?;
        let hosts = pod.folder.join("hosts");
        let names = format!("127.0.0.1 localhost\n{} nsp-{TRENCH}.{NAMESPACE}\n", self.services_at());
        std::fs::write(&hosts, names).doing(|| "write the hosts file of the proxy".into())?;
        let state = pod.state()?;
        let nsm = self.ground.folder(control_plane::NSMGR).doing(|| "find the folder of nsmgr".into())?;
        let start = Start {
            program: ground::PROXY.as_ref(),
            arguments: &[],
            environment: &environment(&self.topology, self.services_at()),
            mounts: &[(spire, SPIRE), (nsm, NSM), (state, STATE), (hosts, "/etc/hosts")],
            confined: true,
            log: "log",
        };
        self.proxy = Some(Process::start(pod, &start)?);
        Ok(())
    }

    /// The proxy's health socket, seen from here.
    pub fn health_socket(&self) -> PathBuf {
        let pid = self.proxy.as_ref().map_or(0, Process::pid);
        format!("/proc/{pid}/root{}", health::SOCKET).into()
    }
}

fn environment(topology: &Topology, services: IpAddr) -> Vec<(String, String)> {
    let family = match topology.families.as_slice() {
        [Family::V4] => "ipv4",
        [Family::V6] => "ipv6",
        _ => "dualstack",
    };
    let variables = [
        ("NSM_NAME", topology::PROXY.to_owned()),
        ("NSM_SERVICE_NAME", proxy_service()),
        ("NSM_CONNECT_TO", format!("unix://{NSM}/nsm.io.sock")),
        ("NSM_MAX_TOKEN_LIFETIME", "10m".to_owned()),
        ("NSM_IPAM_SERVICE", std::net::SocketAddr::new(services, IPAM_PORT).to_string()),
        ("NSM_HOST", NODE.to_owned()),
        ("NSM_NETWORK_SERVICE_NAME", lb_service()),
        ("NSM_NAMESPACE", NAMESPACE.to_owned()),
        ("NSM_TRENCH", TRENCH.to_owned()),
        ("NSM_CONDUIT", CONDUIT.to_owned()),
        ("NSM_NSP_SERVICE_NAME", "nsp".to_owned()),
        ("NSM_NSP_SERVICE_PORT", NSP_PORT.to_string()),
        ("NSM_IP_FAMILY", family.to_owned()),
        ("NSM_MTU", MTU.to_string()),
        ("NSM_SNAPSHOT_PATH", format!("{STATE}/snapshot")),
        ("SPIFFE_ENDPOINT_SOCKET", format!("unix://{SPIRE}/{}", agent::SOCKET)),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}
