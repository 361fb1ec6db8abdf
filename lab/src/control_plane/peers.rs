// SPDX-License-Identifier: Apache-2.0
//! Runs a registry and an nsmgr made of NSM's Go sdk on the node, with all policies on.
//!
//! They are the programs of `tests/interop`. Each is a separate pod for the Workload API, with an
//! id of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    NSMGR,
    collector::{COLLECTOR, Collector},
};
use crate::{
    error::LabError,
    identity::agent::Agent,
    pods::pod::{Pod, Process, Start},
    topology::NODE,
};
use nsm::transport::Address;

/// The registry, and its path in the lab.
const REGISTRY: Program = ("registry", "/run/registry");
/// nsmgr, and its path in the lab.
const MANAGER: Program = (NSMGR, "/run/nsmgr");
/// A target, and its path in the lab.
const CLIENT: Program = ("client", "/run/client");
/// Address of the registry on the node.
const REGISTRY_AT: &str = "tcp://127.0.0.1:5002";
/// Address of nsmgr for other nodes, of which there are none.
const NSMGR_AT: &str = "tcp://127.0.0.1:5001";
/// Timeout of a program's end.
const END: Duration = Duration::from_secs(5);

/// Name of a program and of its pod; its path.
type Program = (&'static str, &'static str);

/// The programs in a folder, with their paths in the lab; those for traces if they are needed.
pub fn programs(folder: &Path, traces: bool) -> impl Iterator<Item = (PathBuf, &'static str)> {
    let of_traces = [CLIENT, ("collector", COLLECTOR)].into_iter().filter(move |_| traces);
    [REGISTRY, MANAGER].into_iter().chain(of_traces).map(|(name, place)| (folder.join(name), place))
}

/// Starts the client of a network service in a pod. It connects, closes the connection, and ends.
///
/// # Errors
/// The program could not be started.
pub fn start_client(
    pod: &Pod,
    nsmgr: &Address,
    agent: &mut Agent,
    service: &str,
) -> Result<Process, LabError> {
    let connect = nsmgr.to_string();
    let arguments = [
        "-connect",
        &connect,
        "-service",
        service,
        "-node",
        NODE,
        "-name",
        &pod.name,
        "-id",
        &pod.name,
        "-refreshes",
        "0",
    ];
    run(pod, agent, CLIENT, &arguments)
}

/// The running programs.
pub struct Peers {
    registry: Process,
    nsmgr: Process,
}

impl Peers {
    /// Starts both on the node; nsmgr listens at `target` soon after.
    ///
    /// # Errors
    /// A program could not be started.
    pub fn start(node: &Pod, target: &Address, agent: &mut Agent) -> Result<Self, LabError> {
        let listen = target.to_string();
        if let Address::Unix(socket) = target {
            // Left by a predecessor that was killed.
            let _gone = std::fs::remove_file(socket);
        }
        let registry = ["-listen", REGISTRY_AT];
        let nsmgr = ["-listen", &listen, "-public", NSMGR_AT, "-registry", REGISTRY_AT];
        Ok(Self {
            registry: run(node, agent, REGISTRY, &registry)?,
            nsmgr: run(node, agent, MANAGER, &nsmgr)?,
        })
    }

    /// The last lines of both logs.
    pub fn tail(&self, lines: usize) -> String {
        format!("{}\n\n{}", self.registry.tail(lines), self.nsmgr.tail(lines))
    }

    /// Ends both. Everything registered is forgotten.
    pub async fn stop(self) {
        for (name, process) in [(MANAGER.0, self.nsmgr), (REGISTRY.0, self.registry)] {
            match process.terminate(END).await {
                Ok(Some(status)) if status.success() => {}
                ended => tracing::warn!(name, ?ended, "did not end when asked"),
            }
        }
    }
}

fn run(
    node: &Pod,
    agent: &mut Agent,
    (name, place): Program,
    arguments: &[&str],
) -> Result<Process, LabError> {
    let identity = agent.attest(name, &node.folder.join(name))?;
    let own = [("SPIFFE_ENDPOINT_SOCKET", identity), ("NODE_NAME", NODE.to_owned())];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let environment: Vec<_> = own.into_iter().chain(Collector::of_peer()).collect();
    let start = Start {
        program: place.as_ref(),
        arguments,
        environment: &environment,
        mounts: &[],
        confined: false,
        log: &format!("{name}.log"),
    };
    Process::start(node, &start)
}
