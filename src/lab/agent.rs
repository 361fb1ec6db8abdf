// SPDX-License-Identifier: Apache-2.0
//! Give every pod an identity, as SPIRE's agent of the node does.

use std::{collections::BTreeMap, time::Duration};

use super::{
    authority::Authority,
    error::{Doing, LabError},
    pod::Pod,
    topology::NAMESPACE,
    workload::Workload,
};
use crate::{chain::Tasks, transport::Identity};

/// Trust domain of the lab.
const TRUST_DOMAIN: &str = "lab.meridio";
/// Lifetime of an SVID, as in NSM's deployments.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The authority and the Workload API of each pod.
pub struct Agent {
    authority: Authority,
    workloads: BTreeMap<String, Workload>,
}

impl Agent {
    /// An agent with a root of its own.
    ///
    /// # Errors
    /// The root cannot be made.
    pub fn new() -> Result<Self, LabError> {
        let authority = Authority::new(TRUST_DOMAIN).doing(|| "make a certificate authority".into())?;
        Ok(Self { authority, workloads: BTreeMap::new() })
    }

    /// Serve the Workload API of a pod, with an identity at once.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn attest(&mut self, pod: &Pod) -> Result<&Workload, LabError> {
        let workload = Workload::listen(pod.folder.join("agent.sock"));
        let workload = workload.doing(|| format!("serve the Workload API of pod {}", pod.name))?;
        self.workloads.insert(pod.name.clone(), workload);
        self.rotate(&pod.name)?;
        self.workloads.get(&pod.name).ok_or("it is gone").doing(|| format!("attest pod {}", pod.name))
    }

    /// Serve the Workload API of a pod that is played by the lab, and follow it.
    ///
    /// # Errors
    /// Those of [`Agent::attest`].
    pub fn identity(&mut self, pod: &Pod, tasks: &Tasks) -> Result<Identity, LabError> {
        Ok(Identity::follow(&self.attest(pod)?.url(), tasks))
    }

    /// Give a pod a new SVID.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn rotate(&self, pod: &str) -> Result<(), LabError> {
        let issued = self.authority.issue(&self.authority.pod(NAMESPACE, pod), LIFETIME);
        let issued = issued.doing(|| format!("issue an SVID for pod {pod}"))?;
        if let Some(workload) = self.workloads.get(pod) {
            workload.grant(issued);
        }
        Ok(())
    }
}
