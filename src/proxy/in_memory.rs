// SPDX-License-Identifier: Apache-2.0
//! Puts the chains on a kernel and an IPAM in memory, for tests and benchmarks.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    chain::observe::Observer,
    elements::{answers::Answers, egress::Egress, mechanism::Names, send_fd::Netns},
    ipam::{self, InMemory, Leases, Subnet, Tree},
    kernel::{self, Kernel, Memory},
    proxy::{chains::Parts, config::Config, health::Health, metrics::Metrics, state::Sources},
    server::monitor::Connections,
    task::Tasks,
    transport::{Address, Dialer, Identity},
};

/// A kernel in which an earlier process left the link `nsm-1` of the load balancer `lb-1` and its
/// next hop, 172.16.1.2.
#[cfg(test)]
pub(super) async fn left_by_an_earlier_process() -> Memory {
    let linux = Memory::default();
    let tasks = Tasks::default();
    let former = Kernel::start(kernel::Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
    former.set_gateways(crate::api::Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
    linux.add_link("nsm-1", Some("server-lb-1"));
    let peer = kernel::PeerId::load_balancer("lb-1");
    let port = former.port(&peer, "nsm-1".parse().unwrap(), kernel::Ends::default());
    let next_hop = former.next_hop(&peer, "172.16.1.2".parse().unwrap());
    former.settled().await;
    tasks.stop().await;
    drop((port, next_hop)); // after the end, so that both stay
    linux
}

/// The observer with which the proxy reports the calls of a chain to its metrics.
///
/// # Errors
/// No socket can be opened.
pub fn observer(chain: &'static str) -> io::Result<Arc<dyn Observer>> {
    let config =
        Config::parse(|name| (name == "SPIFFE_ENDPOINT_SOCKET").then(|| "unix:///run/agent.sock".into()));
    let config = config.map_err(|mistakes| io::Error::other(format!("{mistakes:?}")))?;
    let metrics = Metrics::new(&Sources::new(&config, &Health::default())).map_err(io::Error::other)?;
    let observer = metrics.chain(chain);
    std::mem::forget(metrics); // the instruments count as long as their provider lives
    Ok(observer)
}

/// Parts without any peer: no gateways, no identity, and a dialer that reaches nothing. Replace the
/// parts that matter: `Parts { mtu: 9000, ..parts("px", &tasks)? }`.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// `/proc` is not mounted.
pub fn parts(name: &str, tasks: &Tasks) -> io::Result<Parts> {
    const HOUR: Duration = Duration::from_secs(3600);
    let tree = Tree::new("trench");
    tree.add_conduit("conduit").map_err(io::Error::other)?;
    let subnet = Subnet { trench: "trench".into(), conduit: "conduit".into(), node: "node".into() };
    let nowhere = Address::Unix("/nonexistent".into());
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
        answers: Answers::default(),
        dialer: Dialer {
            identity: Identity::follow(&nowhere.to_string(), tasks),
            address: nowhere,
            dial_timeout: HOUR,
            token_lifetime: HOUR,
        },
        tasks: tasks.clone(),
    })
}
