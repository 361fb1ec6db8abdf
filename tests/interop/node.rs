// SPDX-License-Identifier: Apache-2.0
//! A node: a folder, an authority, and the Go components that run there.

use std::{collections::HashMap, net::TcpListener, path::PathBuf, time::Duration};

use nsm::testing::{Authority, Issued, Workload};

use crate::programs::{self, Netns, Outcome, Program};

/// Validity of the SVIDs: longer than any test.
const HOUR: Duration = Duration::from_secs(3600);
/// Timeout of a program's start, on a machine that compiles at the same time.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of one exchange with a peer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Timeout from the manager's restart until peers reach us again.
pub(crate) const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// A node of the cluster, as far as NSM is concerned.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    authority: Authority,
    workloads: HashMap<String, Workload>,
    logs: usize,
    /// Address of the manager in the registry: that of a restarted one is the same.
    public: String,
}

/// The Go control plane of a node, with all policies on.
pub(crate) struct ControlPlane {
    _registry: Program,
    registry_url: String,
    nsmgr: Program,
    _forwarder: Program,
}

impl Node {
    /// An empty node.
    pub(crate) fn new() -> Outcome<Self> {
        let folder =
            tempfile::Builder::new().prefix("interop").tempdir().map_err(|error| error.to_string())?;
        // If another process takes the port before the manager does, the manager fails with an
        // error.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let public = format!("tcp://{}", free.map_err(|error| format!("no loopback address: {error}"))?);
        let authority = Authority::new("interop.test");
        Ok(Self { folder, authority, workloads: HashMap::new(), logs: 0, public })
    }

    /// A path in the node's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The address of a socket in the node's folder.
    pub(crate) fn unix(&self, name: &str) -> String {
        format!("unix://{}", self.path(name).display())
    }

    /// The manager's address.
    pub(crate) fn manager(&self) -> String {
        self.unix("nsm.io.sock")
    }

    /// The SPIFFE id of a pod.
    pub(crate) fn id(&self, pod: &str) -> String {
        self.authority.pod("default", pod)
    }

    /// An SVID that the Workload API does not serve.
    pub(crate) fn issue(&self, pod: &str) -> Issued {
        self.authority.issue(&self.id(pod), HOUR)
    }

    /// The Workload API of a pod, with an identity.
    pub(crate) fn workload(&mut self, pod: &str) -> Outcome<String> {
        if let Some(workload) = self.workloads.get(pod) {
            return Ok(workload.url());
        }
        let issued = self.issue(pod);
        let workload =
            Workload::listen(self.path(&format!("{pod}.agent"))).map_err(|error| error.to_string())?;
        workload.grant(issued);
        let url = workload.url();
        self.workloads.insert(pod.to_owned(), workload);
        Ok(url)
    }

    /// Runs a Go program as a pod.
    pub(crate) fn run(&mut self, program: &str, pod: &str, netns: Netns, args: &[&str]) -> Outcome<Program> {
        let identity = self.workload(pod)?;
        self.logs += 1;
        let log = self.path(&format!("{pod}.{}.log", self.logs));
        let path = programs::folder().join(program);
        Program::start(pod, &path, args, &identity, log, netns)
    }

    /// Starts registry, manager and forwarder.
    pub(crate) async fn control_plane(&mut self) -> Outcome<ControlPlane> {
        let mut registry = self.run("registry", "registry", Netns::Shared, &[])?;
        let listening = registry.event("listening", START_TIMEOUT).await?;
        let registry_url = listening["url"].as_str().unwrap_or_default().to_owned();
        let nsmgr = self.nsmgr(&registry_url).await?;
        let manager = self.manager();
        let mut forwarder = self.run("forwarder", "forwarder", Netns::Own, &["-connect", &manager])?;
        forwarder.event("registered", START_TIMEOUT).await?;
        Ok(ControlPlane { _registry: registry, registry_url, nsmgr, _forwarder: forwarder })
    }

    async fn nsmgr(&mut self, registry: &str) -> Outcome<Program> {
        let listen = self.manager();
        let public = self.public.clone();
        let args = ["-listen", &listen, "-public", &public, "-registry", registry];
        let mut nsmgr = self.run("nsmgr", "nsmgr", Netns::Shared, &args)?;
        nsmgr.event("listening", START_TIMEOUT).await?; // the public address
        nsmgr.event("listening", START_TIMEOUT).await?; // the socket
        Ok(nsmgr)
    }

    /// Kills the manager and starts it again at the same addresses.
    pub(crate) async fn restart_nsmgr(&mut self, control: &mut ControlPlane) -> Outcome<()> {
        control.nsmgr.kill()?;
        control.nsmgr = self.nsmgr(&control.registry_url.clone()).await?;
        Ok(())
    }
}
