// SPDX-License-Identifier: Apache-2.0
//! Gives every pod an identity, as SPIRE's agent of the node does.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::{Doing, LabError},
    pods::simulated::Simulated,
    topology::NAMESPACE,
};
use nsm::{
    task::Tasks,
    testing::{Authority, Issued, Workload},
    transport::Identity,
};

/// Trust domain of the lab.
const TRUST_DOMAIN: &str = "lab.meridio";
/// Name of the socket in the folder of a pod.
pub const SOCKET: &str = "agent.sock";
/// Lifetime of an SVID, as in NSM's deployments.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The authority and the Workload API of each pod.
pub struct Agent {
    authority: Authority,
    workloads: BTreeMap<String, Attested>,
    /// Serves them, unless the agent is killed.
    process: Option<Simulated>,
}

/// A pod that has an identity.
struct Attested {
    socket: PathBuf,
    issued: Issued,
    workload: Option<Workload>,
}

impl Attested {
    fn serve(&mut self, process: &Simulated) -> io::Result<()> {
        let workload = process.within(|| Workload::listen(&self.socket))?;
        workload.grant(self.issued.clone());
        self.workload = Some(workload);
        Ok(())
    }
}

impl Agent {
    /// An agent with a root of its own.
    ///
    /// # Errors
    /// The root cannot be made.
    pub fn new() -> Result<Self, LabError> {
        let authority = Authority::new(TRUST_DOMAIN);
        let process = Some(Simulated::start("spire-agent").doing(|| "start the agent".into())?);
        Ok(Self { authority, workloads: BTreeMap::new(), process })
    }

    /// Kills the agent: no pod has a Workload API any more. The issued identities stay valid.
    pub fn kill(&mut self) {
        self.process = None;
        for pod in self.workloads.values_mut() {
            pod.workload = None;
        }
    }

    /// Its process, unless it is killed.
    pub fn process(&mut self) -> Option<&mut Simulated> {
        self.process.as_mut()
    }

    /// Starts it again, with the issued identities.
    ///
    /// # Errors
    /// A socket cannot be bound.
    pub fn start_again(&mut self) -> Result<(), LabError> {
        let process = Simulated::start("spire-agent").doing(|| "start the agent".into())?;
        for (name, pod) in &mut self.workloads {
            pod.serve(&process).doing(|| format!("serve the Workload API of pod {name}"))?;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Serves the Workload API of a pod in a folder of its own, with an identity at once. Returns
    /// its address, in the format of the variable `SPIFFE_ENDPOINT_SOCKET`.
    ///
    /// # Errors
    /// The socket cannot be bound, or the agent is killed and does not know the pod.
    pub fn attest(&mut self, pod: &str, folder: &Path) -> Result<String, LabError> {
        let url = |socket: &Path| format!("unix://{}", socket.display());
        if let Some(known) = self.workloads.get(pod) {
            return Ok(url(&known.socket));
        }
        let process = self.process.as_ref().ok_or("the agent is away");
        let process = process.doing(|| format!("attest pod {pod}"))?;
        let issued = self.issue(pod, LIFETIME);
        let mut attested = Attested { socket: folder.join(SOCKET), issued, workload: None };
        let made = std::fs::create_dir_all(folder);
        made.and_then(|()| attested.serve(process))
            .doing(|| format!("serve the Workload API of pod {pod}"))?;
        let url = url(&attested.socket);
        self.workloads.insert(pod.to_owned(), attested);
        Ok(url)
    }

    /// Serves the Workload API of a pod that is simulated by the lab, and follows it.
    ///
    /// # Errors
    /// Those of [`Agent::attest`].
    pub fn identity(&mut self, pod: &str, folder: &Path, tasks: &Tasks) -> Result<Identity, LabError> {
        Ok(Identity::follow(&self.attest(pod, &folder.join("spire"))?, tasks))
    }

    /// Every pod that has an identity.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.workloads.keys().map(String::as_str)
    }

    /// Gives a pod a new SVID.
    pub fn rotate(&mut self, pod: &str) {
        self.grant(pod, LIFETIME);
    }

    /// Gives a pod a new SVID that is valid for this time.
    pub fn grant(&mut self, pod: &str, lifetime: Duration) {
        let issued = self.issue(pod, lifetime);
        if let Some(attested) = self.workloads.get_mut(pod) {
            attested.issued = issued.clone();
            if let Some(workload) = &attested.workload {
                workload.grant(issued);
            }
        }
    }

    fn issue(&self, pod: &str, lifetime: Duration) -> Issued {
        self.authority.issue(&self.authority.pod(NAMESPACE, pod), lifetime)
    }
}
