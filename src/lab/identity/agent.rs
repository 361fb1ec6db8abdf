// SPDX-License-Identifier: Apache-2.0
//! Give every pod an identity, as SPIRE's agent of the node does.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{authority::Authority, workload::Workload};
use crate::{
    chain::Tasks,
    lab::{
        error::{Doing, LabError},
        topology::NAMESPACE,
    },
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

    /// Serve the Workload API of a pod in a folder of its own, with an identity at once.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn attest(&mut self, pod: &str, folder: &Path) -> Result<&Workload, LabError> {
        if !self.workloads.contains_key(pod) {
            let listen = || {
                std::fs::create_dir_all(folder)?;
                Workload::listen(folder.join(SOCKET))
            };
            let workload = listen().doing(|| format!("serve the Workload API of pod {pod}"))?;
            self.workloads.insert(pod.to_owned(), workload);
            self.rotate(pod)?;
        }
        self.workloads.get(pod).ok_or("it is gone").doing(|| format!("attest pod {pod}"))
    }

    /// Serve the Workload API of a pod that is played by the lab, and follow it.
    ///
    /// # Errors
    /// Those of [`Agent::attest`].
    pub fn identity(&mut self, pod: &str, folder: &Path, tasks: &Tasks) -> Result<Identity, LabError> {
        Ok(Identity::follow(&self.attest(pod, &folder.join("spire"))?.url(), tasks))
    }

    /// Every pod that has an identity.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.workloads.keys().map(String::as_str)
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
