// SPDX-License-Identifier: Apache-2.0
//! Put the chains on a kernel and an IPAM in memory: to print them, to test them, to measure them.

use std::{io, time::Duration};

use tokio::sync::watch;

use crate::{
    chain::Tasks,
    elements::{egress::Egress, mechanism::Names, send_fd::Netns},
    ipam::{self, InMemory, Leases, Subnet, Tree},
    kernel::{self, Kernel, Memory},
    proxy::chains::Parts,
    transport::{Dialer, Identity, Target, monitor::Connections},
};

/// Parts of which nothing leaves this process: no gateways, no identity, and nobody to dial. Replace what matters:
/// `Parts { mtu: 9000, ..parts("px", &tasks)? }`.
///
/// Call it inside a tokio runtime.
///
/// # Errors
/// `/proc` is not mounted.
pub fn parts(name: &str, tasks: &Tasks) -> io::Result<Parts> {
    const HOUR: Duration = Duration::from_secs(3600);
    let tree = Tree::new("trench");
    tree.add_conduit("conduit").map_err(io::Error::other)?;
    let subnet = Subnet { trench: "trench".into(), conduit: "conduit".into(), node: "node".into() };
    let nowhere = Target::Unix("/nonexistent".into());
    Ok(Parts {
        name: name.to_owned(),
        token_lifetime: HOUR,
        mtu: 1500,
        netns: Netns::own()?,
        names: Names::new(|_| false),
        kernel: Kernel::start(kernel::Settings::of("trench", "conduit", "node"), Memory::default(), tasks),
        leases: Leases::start(InMemory::new(tree, subnet), ipam::Settings::default(), tasks),
        gateways: watch::channel(Default::default()).1,
        vips: watch::channel(None).1,
        connections: Connections::default(),
        egress: Egress::default(),
        dialer: Dialer {
            identity: Identity::follow(&nowhere.to_string(), tasks),
            target: nowhere,
            dial_timeout: HOUR,
            token_lifetime: HOUR,
        },
        tasks: tasks.clone(),
    })
}
