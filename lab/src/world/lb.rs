// SPDX-License-Identifier: Apache-2.0
//! A simulated load balancer: an endpoint of the service to which the proxy connects, with a
//! stateless data path.
//!
//! Like Meridio's it accepts any addresses that the proxy chose, and balances over the links that
//! NSM makes in its namespace.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    answered::Answered,
    balance::{self, Targets},
};
use crate::{
    control_plane::{
        clients,
        hop::Hop,
        registration::{Kept, dialer},
        superseded,
    },
    error::{Doing, LabError},
    network::netlink::Netlink,
    pods::{hosted::Hosted, pod::Pod, simulated::Simulated},
    topology::lb_service,
};
use nsm::{
    api::pb::registry::NetworkService,
    elements::{
        mechanism::{self, Names},
        send_fd,
    },
    server::{self, monitor::Connections},
    transport::{Address, Identity},
};

/// The network service that every load balancer registers.
pub fn service() -> NetworkService {
    NetworkService { name: lb_service(), payload: "ETHERNET".into(), ..Default::default() }
}

/// A running load balancer. Dropped, it is killed: its links stay, and so does its registration
/// until it lapses.
pub struct Lb {
    /// Its name.
    pub name: String,
    process: Simulated,
    served: Served,
    registration: Kept,
}

/// Its parts that serve its connections.
struct Served {
    connections: Connections,
    targets: watch::Sender<Targets>,
    whole: watch::Receiver<bool>,
    hop: Hop,
    hosted: Hosted,
    _balancer: AbortOnDropHandle<()>,
}

impl Lb {
    /// Listens in the pod's folder, registers with nsmgr, and balances. `client` has the client's
    /// end of the cable.
    ///
    /// # Errors
    /// The socket is taken, or the kernel refused a rule.
    pub async fn start(
        pod: &Pod,
        nsmgr: &Address,
        identity: Identity,
        client: &[IpNet],
        vips: Vec<IpAddr>,
    ) -> Result<Self, LabError> {
        balance::prepare(&pod.netlink, client, &vips).await?;
        let process = Simulated::start(&pod.name).doing(|| format!("start {}", pod.name))?;
        let name = pod.name.clone();
        let (served, registration) = process.within(|| Self::serve(pod, nsmgr, identity, vips))?;
        Ok(Self { name, process, served, registration })
    }

    fn serve(
        pod: &Pod,
        nsmgr: &Address,
        identity: Identity,
        vips: Vec<IpAddr>,
    ) -> Result<(Served, Kept), LabError> {
        let netlink = Netlink::connect(&pod.netns).doing(|| format!("enter pod {}", pod.name))?;
        let (targets, watched) = watch::channel(Targets::default());
        let (found, whole) = watch::channel(false);
        let balancer = AbortOnDropHandle::new(tokio::spawn(balance::keep(netlink, vips, watched, found)));

        let hop = Hop::new(pod.name.clone());
        let connections = Connections::default();
        let netns = send_fd::Netns::of(pod.netns.descriptor())
            .doing(|| format!("name the namespace of {}", pod.name))?;
        let chain = hop
            .endpoint(&connections)
            .with(mechanism::Endpoint::new(Names::new(|_| false)))
            .with(send_fd::Endpoint::new(netns))
            .build();
        let chain = chain.doing(|| format!("build the chain of {}", pod.name))?;
        let socket = pod.folder.join("listen.on");
        let routes = server::Endpoint::new(chain, connections.clone()).routes();
        let dialer = dialer(nsmgr, &identity);
        let hosted = Hosted::start(&pod.netns, &Address::Unix(socket.clone()), identity, routes)?;
        let registration = Kept::start(dialer, &pod.name, &[], service(), socket);
        Ok((Served { connections, targets, whole, hop, hosted, _balancer: balancer }, registration))
    }

    /// Waits until it is registered with nsmgr.
    ///
    /// # Errors
    /// It is not registered within that time.
    pub async fn registered(&self, within: Duration) -> Result<(), LabError> {
        self.registration.registered(within).await
    }

    /// Waits until it has a route to every target for every VIP.
    ///
    /// # Errors
    /// It has not, within that time.
    pub async fn balanced(&self, within: Duration) -> Result<(), LabError> {
        let mut whole = self.served.whole.clone();
        let found = tokio::time::timeout(within, whole.wait_for(|whole| *whole)).await;
        let found = found.doing(|| format!("find every target behind {} in time", self.name))?;
        found.map(drop).doing(|| format!("find every target behind {}", self.name))
    }

    /// The connections that it has.
    pub fn connections(&self) -> &Connections {
        &self.served.connections
    }

    /// Number of clients with a connection.
    pub fn clients(&self) -> usize {
        clients(self.connections())
    }

    /// Number of connections that their client has made again, because a Close was lost with a hop
    /// that had died. They last until their token expires.
    pub fn superseded(&self) -> usize {
        superseded(self.connections())
    }

    /// Stops the process: its sockets stay open, and it does not answer.
    pub fn hang(&mut self) {
        self.process.stop();
    }

    /// Lets a stopped process continue.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Balances over these targets from now on.
    pub fn set_targets(&self, targets: Vec<watch::Receiver<Answered>>) {
        self.served.targets.send_replace(Targets(targets));
    }

    /// Unregisters and ends. Its links stay until the proxy, which then does not find it any more,
    /// has closed them.
    pub async fn stop(self) {
        self.registration.unregister().await;
        self.served.stop().await;
    }

    /// Leaves the registry, and continues to serve the present connections.
    pub async fn withdraw(self) -> Withdrawn {
        self.registration.unregister().await;
        Withdrawn { served: self.served, _process: self.process }
    }
}

impl Served {
    async fn stop(self) {
        self.hosted.stop().await;
        self.hop.tasks.stop().await;
    }
}

/// A load balancer that is not registered any more: the proxy closes its connection.
pub struct Withdrawn {
    served: Served,
    _process: Simulated,
}

impl Withdrawn {
    /// The connections that are left.
    pub fn connections(&self) -> &Connections {
        &self.served.connections
    }

    /// Ends.
    pub async fn stop(self) {
        self.served.stop().await;
    }
}
