// SPDX-License-Identifier: Apache-2.0
//! The state of the proxy as one document.
//!
//! [`Sources`] has the handles that the parts publish anyway, given by the stages of the start, and
//! reads them when a [`Document`] is asked for. Nothing is collected twice, and no part waits for a
//! reader. A part that is not up yet is absent; `start` names the step that is waited for.

mod document;
mod history;
mod kernel;
mod peers;
mod services;
mod sources;

pub(crate) use self::{
    document::{
        Chains, Conduit, Document, Identity, Lease, Leases, Process, Service, Services, Start, VERSION,
        Verdict, Vips,
    },
    kernel::Kernel,
    peers::{Answer, Hop, LoadBalancer, Mesh, Target},
    sources::{Handles, Sources},
};

#[cfg(test)]
pub(crate) use self::kernel::Sysctl;

#[cfg(test)]
mod tests;
