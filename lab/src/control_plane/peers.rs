// SPDX-License-Identifier: Apache-2.0
//! Runs a registry and an nsmgr made of NSM's Go sdk on the node, with all policies on.
//!
//! They are the programs of `tests/interop`. Each is a separate pod for the Workload API, with an
//! id of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{NSMGR, collector::Collector};
use crate::{
    error::LabError,
    identity::agent::Agent,
    pods::pod::{Pod, Process, Start},
    topology::NODE,
};
use nsm::transport::Address;

/// The registry.
const REGISTRY: &str = "registry";
/// A client.
pub const CLIENT: &str = "client";
/// An endpoint.
pub const ENDPOINT: &str = "endpoint";
/// Folder of the programs in the lab.
pub const PROGRAMS: &str = "/run";
/// Address of the registry on the node.
const REGISTRY_AT: &str = "tcp://127.0.0.1:5002";
/// Address of nsmgr for other nodes, of which there are none.
const NSMGR_AT: &str = "tcp://127.0.0.1:5001";
/// Timeout of a program's end.
const END: Duration = Duration::from_secs(5);

/// The programs in a folder, with their paths in the lab; those for traces if they are needed.
pub fn programs(folder: &Path, traces: bool) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let of_traces = [CLIENT, "collector"].into_iter().filter(move |_| traces);
    let names = [REGISTRY, NSMGR].into_iter().chain(of_traces);
    names.map(|name| (folder.join(name), Path::new(PROGRAMS).join(name)))
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
    run(Path::new(PROGRAMS), CLIENT, pod, agent, &arguments)
}

/// The running programs.
pub struct Peers {
    registry: Process,
    nsmgr: Process,
}

impl Peers {
    /// Starts both on the node, from a folder of programs; nsmgr listens at `target` soon after.
    ///
    /// # Errors
    /// A program could not be started.
    pub fn start(programs: &Path, node: &Pod, target: &Address, agent: &mut Agent) -> Result<Self, LabError> {
        let listen = target.to_string();
        if let Address::Unix(socket) = target {
            // Left by a predecessor that was killed.
            let _gone = std::fs::remove_file(socket);
        }
        let registry = ["-listen", REGISTRY_AT];
        let nsmgr = ["-listen", &listen, "-public", NSMGR_AT, "-registry", REGISTRY_AT];
        Ok(Self {
            registry: run(programs, REGISTRY, node, agent, &registry)?,
            nsmgr: run(programs, NSMGR, node, agent, &nsmgr)?,
        })
    }

    /// The last lines of both logs.
    pub fn tail(&self, lines: usize) -> String {
        format!("{}\n\n{}", self.registry.tail(lines), self.nsmgr.tail(lines))
    }

    /// Ends both. Everything registered is forgotten.
    pub async fn stop(self) {
        for (name, process) in [(NSMGR, self.nsmgr), (REGISTRY, self.registry)] {
            match process.terminate(END).await {
                Ok(Some(status)) if status.success() => {}
                ended => tracing::warn!(name, ?ended, "did not end when asked"),
            }
        }
    }
}

/// Runs a program of a folder in a pod, with an identity of its own name.
///
/// # Errors
/// The program could not be started.
pub fn run(
    programs: &Path,
    name: &str,
    pod: &Pod,
    agent: &mut Agent,
    arguments: &[&str],
) -> Result<Process, LabError> {
    let identity = agent.attest(name, &pod.folder.join(name))?;
    let own = [("SPIFFE_ENDPOINT_SOCKET", identity), ("NODE_NAME", NODE.to_owned())];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let environment: Vec<_> = own.into_iter().chain(Collector::of_peer()).collect();
    let start = Start {
        program: &programs.join(name),
        arguments,
        environment: &environment,
        mounts: &[],
        confined: false,
        log: &format!("{name}.log"),
    };
    Process::start(pod, &start)
}
