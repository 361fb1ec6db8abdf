// SPDX-License-Identifier: Apache-2.0
//! Keeps the channels to IPAM and NSP, and reports in health whether they are connected.

use tokio::sync::watch;

use super::{
    config::Config,
    health::{Health, Part},
    metrics::{Metrics, Timed},
};
use crate::{
    api::pb::{
        ipam::v1::ipam_client::IpamClient, nsp::v1::configuration_manager_client::ConfigurationManagerClient,
    },
    ipam::{self, GrpcAllocator, Leases, Record, Subnet},
    task::Tasks,
    transport::{Address, Channel, ChannelSettings, Identity, Link, origin},
};

/// The proxy's clients of other services of its trench.
#[derive(Debug)]
pub struct Services {
    /// Addresses from IPAM.
    pub leases: Leases,
    /// Configuration from NSP.
    pub nsp: ConfigurationManagerClient<Timed<Channel>>,
    /// The connections to IPAM and NSP.
    pub links: [watch::Receiver<Link>; 2],
}

impl Services {
    /// Connects to both in tasks of `tasks`, for as long as those live. Does not wait. `restored`
    /// are the leases of an earlier process.
    pub fn open(
        config: &Config,
        identity: &Identity,
        restored: Vec<Record>,
        health: &Health,
        metrics: Option<&Metrics>,
        tasks: &Tasks,
    ) -> Self {
        let settings = ChannelSettings {
            keepalive: config.grpc_keepalive_time,
            max_backoff: config.grpc_max_backoff,
            ..ChannelSettings::default()
        };
        let open = |target: &Address, part| {
            let channel = Channel::open(target.clone(), identity.clone(), settings, tasks);
            tasks.spawn(report(channel.subscribe(), part, health.clone()));
            channel
        };
        let ipam = open(&config.ipam_service, Part::Ipam);
        let nsp = open(&config.nsp_service, Part::Nsp);
        let links = [ipam.subscribe(), nsp.subscribe()];
        let lease = ipam::Settings {
            families: config.families.to_vec(),
            release_delay: config.ip_release_delay,
            ..ipam::Settings::default()
        };
        let client = IpamClient::with_origin(Timed::new(ipam, metrics), origin());
        let allocator = GrpcAllocator::new(client, subnet(config), lease.rpc_timeout);
        let leases = Leases::resume(allocator, lease, restored, tasks);
        Self {
            leases,
            nsp: ConfigurationManagerClient::with_origin(Timed::new(nsp, metrics), origin()),
            links,
        }
    }
}

/// The conduit and the node of this proxy, as named in IPAM.
pub(super) fn subnet(config: &Config) -> Subnet {
    Subnet { trench: config.trench.clone(), conduit: config.conduit.clone(), node: config.host.clone() }
}

/// Reports every change of a channel's state, until the channel ends.
async fn report(mut link: watch::Receiver<Link>, part: Part, health: Health) {
    loop {
        let now = link.borrow_and_update().clone();
        let reason = now.error().unwrap_or(if now.is_up() { "connected" } else { "connecting" });
        health.set(part, now.is_up(), reason);
        if link.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{
        Authority,
        abrupt::{Abrupt, End},
        eventually,
    };

    #[tokio::test]
    async fn a_part_serves_while_its_connection_is_made_again() {
        let authority = Authority::new("a.test");
        let tasks = Tasks::default();
        let health = Health::default();
        let server = Abrupt::start(authority.identity("nsp"), End::TooManyPings, Duration::ZERO, 3).await;
        let identity = authority.identity("px");
        let channel = Channel::open(server.address.clone(), identity, ChannelSettings::default(), &tasks);
        tasks.spawn(report(channel.subscribe(), Part::Nsp, health.clone()));
        let mut board = health.subscribe();
        board.wait_for(|board| board.part(Part::Nsp).serving).await.unwrap();
        let flaps = async { board.wait_for(|board| !board.part(Part::Nsp).serving).await.map(drop) };
        tokio::select! {
            count = eventually(|| server.connections(), |count| *count == 4) => assert_eq!(count, 4),
            flap = flaps => panic!("it does not serve meanwhile: {flap:?}"),
        }
        tasks.stop().await;
    }
}
