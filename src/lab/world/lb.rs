// SPDX-License-Identifier: Apache-2.0
//! Play a load balancer: an endpoint of the service that the proxy connects to, with a stateless data path.
//!
//! Like Meridio's it takes whatever addresses the proxy chose, and balances over the links that NSM makes in its namespace.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::balance::{self, Wanted};
use crate::{
    api::pb::registry::NetworkService,
    elements::{
        mechanism::{self, Names},
        send_fd,
    },
    lab::{
        control_plane::{
            hop::Hop,
            registration::{Kept, dialer},
        },
        error::{Doing, LabError},
        network::netlink::Netlink,
        pods::{hosted::Hosted, pod::Pod},
        topology::lb_service,
    },
    transport::{Identity, Target, monitor::Connections, server},
};

/// The network service that every load balancer registers.
pub fn service() -> NetworkService {
    NetworkService { name: lb_service(), payload: "ETHERNET".into(), ..Default::default() }
}

/// A running load balancer.
pub struct Lb {
    /// Its name.
    pub name: String,
    /// Connections that it has.
    pub connections: Connections,
    wanted: watch::Sender<Wanted>,
    hop: Hop,
    hosted: Hosted,
    registration: Kept,
    _balancer: AbortOnDropHandle<()>,
}

impl Lb {
    /// Listen in the pod's folder, register with nsmgr, and balance. `client` has the client's end of the cable.
    ///
    /// # Errors
    /// The socket is taken, or the kernel refused a rule.
    pub async fn start(
        pod: &Pod,
        nsmgr: &Target,
        identity: Identity,
        client: &[IpNet],
        vips: Vec<IpAddr>,
    ) -> Result<Self, LabError> {
        balance::prepare(&pod.netlink, client, &vips).await?;
        let netlink = Netlink::connect(&pod.netns).doing(|| format!("enter pod {}", pod.name))?;
        let (wanted, watched) = watch::channel(Wanted { vips, targets: Vec::new() });
        let balancer = AbortOnDropHandle::new(tokio::spawn(balance::keep(netlink, watched)));

        let hop = Hop::new(pod.name.clone());
        let connections = Connections::default();
        let netns = send_fd::Netns::of(pod.netns.descriptor())
            .doing(|| format!("name the namespace of {}", pod.name))?;
        let chain = hop
            .endpoint(&connections)
            .with(mechanism::Endpoint::new(Names::new(|_| false)))
            .with(send_fd::Endpoint::new(netns))
            .build(hop.end());
        let chain = chain.doing(|| format!("build the chain of {}", pod.name))?;
        let socket = pod.folder.join("listen.on");
        let routes = server::Endpoint::new(chain, connections.clone()).discard_descriptors().routes();
        let dialer = dialer(nsmgr, &identity);
        let hosted = Hosted::start(&pod.netns, &Target::Unix(socket.clone()), identity, routes)?;
        let registration = Kept::start(dialer, &pod.name, &[], service(), socket);
        Ok(Self {
            name: pod.name.clone(),
            connections,
            wanted,
            hop,
            hosted,
            registration,
            _balancer: balancer,
        })
    }

    /// Wait until nsmgr knows it.
    ///
    /// # Errors
    /// It is not registered within `patience`.
    pub async fn registered(&self, patience: Duration) -> Result<(), LabError> {
        self.registration.registered(patience).await
    }

    /// Balance over these targets from now on.
    pub fn set_targets(&self, targets: Vec<IpAddr>) {
        self.wanted.send_modify(|wanted| wanted.targets = targets);
    }

    /// Unregister and end. Its links stay until the proxy, which then does not find it any more, has closed them.
    pub async fn stop(self) {
        self.registration.unregister().await;
        self.hosted.stop().await;
        self.hop.tasks.stop().await;
    }

    /// Leave the registry, and go on serving the connections that are there.
    pub async fn withdraw(self) -> Withdrawn {
        self.registration.unregister().await;
        Withdrawn { connections: self.connections, hop: self.hop, hosted: self.hosted }
    }
}

/// A load balancer that is not registered any more: the proxy closes its connection.
pub struct Withdrawn {
    /// Connections that are left.
    pub connections: Connections,
    hop: Hop,
    hosted: Hosted,
}

impl Withdrawn {
    /// End.
    pub async fn stop(self) {
        self.hosted.stop().await;
        self.hop.tasks.stop().await;
    }
}
