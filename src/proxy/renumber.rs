// SPDX-License-Identifier: Apache-2.0
//! Makes targets replace their links when IPAM has moved their addresses.
//!
//! An IPAM that has lost its store returns another subnet. The bridge gets its address first, and
//! keeps the former one. Then the load balancers get addresses in it, and keep their former ones.
//! Then the connection of each target with moved addresses is reported as down, which makes its
//! client request it again: links are replaced because forwarders do not change the routes of one.
//! Targets move one after the other, `PACE` apart: a hundred move within half a minute, and few at
//! a time are without a link. A client that ignores the event gets its new addresses with its next
//! refresh.

use std::{collections::BTreeSet, ops::Bound, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    api::State,
    elements::ipam::{Gateways, names},
    ipam::{self, BRIDGE},
    kernel::{self, Role},
    server::monitor::Connections,
};

/// Time between two targets.
const PACE: Duration = Duration::from_millis(150);
/// Time in which the gateways follow the lease of the bridge.
const FOLLOWED: Duration = Duration::from_secs(1);
/// Longest wait for load balancers. One that does not get its new addresses may have died.
const BALANCER_TIMEOUT: Duration = Duration::from_secs(60);

/// The state on which the order of moving depends.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The leases, of which some may have moved.
    pub leases: watch::Receiver<ipam::Status>,
    /// The addresses of the bridge.
    pub gateways: watch::Receiver<Gateways>,
    /// The load balancers, with their addresses.
    pub kernel: watch::Receiver<kernel::Status>,
}

/// Moves targets, until the leases end.
pub(crate) async fn targets(mut sources: Sources, connections: Connections) {
    while sources.leases.wait_for(has_moved).await.is_ok() {
        sleep(FOLLOWED).await;
        let gateways = sources.gateways.borrow().clone();
        let reached = sources.kernel.wait_for(|status| all_reach(status, &gateways));
        if timeout(BALANCER_TIMEOUT, reached).await.is_err() {
            tracing::warn!(
                "some load balancers have no address in the new subnet: targets move nevertheless"
            );
        }
        while has_moved(&sources.leases.borrow_and_update()) {
            let moved = sources.leases.borrow().moved.clone();
            if let Some(id) = next(&moved, &connections) {
                tracing::warn!(id, "IPAM has moved the addresses of this target: it is to connect again");
                connections.down(&id);
                sleep(PACE).await;
            } else if sources.leases.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Whether IPAM has moved addresses in use, and the bridge has followed.
fn has_moved(status: &ipam::Status) -> bool {
    !status.moved.is_empty() && !status.moved.contains(BRIDGE)
}

/// Whether every load balancer has an address in the subnets of the gateways.
fn all_reach(status: &kernel::Status, gateways: &Gateways) -> bool {
    let now = gateways.now();
    let mut balancers = status.peers.iter().filter(|(id, _)| id.role == Role::LoadBalancer);
    balancers.all(|(_, peer)| {
        now.iter().all(|(_, net)| peer.addresses.iter().any(|address| net.contains(address)))
    })
}

/// A target with moved addresses whose connection has not been reported as down.
fn next(moved: &BTreeSet<Arc<str>>, connections: &Connections) -> Option<String> {
    connections
        .ids(|connection| {
            let mut names = names(connection.client_id()).into_iter();
            connection.state() != State::Down && names.any(|name| contains(moved, &name))
        })
        .into_iter()
        .next()
}

/// Whether leases under a name have moved, for any owner.
fn contains(moved: &BTreeSet<Arc<str>>, name: &str) -> bool {
    let of_another = format!("{name}@");
    let mut after = moved.range::<str, _>((Bound::Included(of_another.as_str()), Bound::Unbounded));
    moved.contains(name) || after.next().is_some_and(|next| next.starts_with(&of_another))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::{
        api::{Connection, Dual},
        kernel::{Peer, PeerId},
        task::Tasks,
        testing,
    };

    fn connections(targets: usize) -> Connections {
        let connections = Connections::default();
        for n in 0..targets {
            let mut connection = Connection::named(format!("own-{n}"));
            testing::path(&mut connection, 1, &[None, None]);
            connection.path_mut().path_segments[0].id = format!("target-{n}");
            connections.publish(&format!("own-{n}"), *connection);
        }
        connections
    }

    fn down(connections: &Connections) -> usize {
        connections.ids(|connection| connection.state() == State::Down).len()
    }

    fn balancers(addresses: &[&str]) -> kernel::Status {
        let of = |address: &&str| Peer { addresses: [address.parse().unwrap()].into(), ..Peer::default() };
        let peers = addresses.iter().map(|address| (PeerId::load_balancer(address), of(address))).collect();
        kernel::Status { peers: Arc::new(peers), ..kernel::Status::default() }
    }

    struct World {
        tasks: Tasks,
        connections: Connections,
        leases: watch::Sender<ipam::Status>,
        kernel: watch::Sender<kernel::Status>,
        _gateways: watch::Sender<Gateways>,
    }

    /// Targets and load balancers, with a bridge that has moved to 172.16.2.0/24.
    fn world(targets: usize, balancers: kernel::Status) -> World {
        let tasks = Tasks::default();
        let connections = connections(targets);
        let leases = watch::Sender::new(ipam::Status::default());
        let net: IpNet = "172.16.2.1/24".parse().unwrap();
        let _gateways = watch::Sender::new(Dual { v4: Some(net), v6: None }.into());
        let kernel = watch::Sender::new(balancers);
        let sources = Sources {
            leases: leases.subscribe(),
            gateways: _gateways.subscribe(),
            kernel: kernel.subscribe(),
        };
        tasks.spawn(super::targets(sources, connections.clone()));
        World { tasks, connections, leases, kernel, _gateways }
    }

    #[tokio::test(start_paused = true)]
    async fn targets_with_moved_addresses_move_one_after_the_other() {
        let World { tasks, connections, leases, .. } = &world(120, balancers(&[]));
        sleep(PACE).await;
        assert_eq!(down(connections), 0);
        let names = (0..100).map(|n| format!("target-{n}-src").into());
        leases.send_modify(|status| status.moved = names.chain([BRIDGE.into()]).collect());
        sleep(10 * PACE).await;
        assert_eq!(down(connections), 0, "the bridge has to move first");
        leases.send_modify(|status| assert!(status.moved.remove(BRIDGE)));
        sleep(FOLLOWED + 10 * PACE).await;
        assert!((8..=12).contains(&down(connections)), "{} at once", down(connections));
        sleep(Duration::from_secs(15)).await;
        assert_eq!(down(connections), 100, "and the twenty others stay as they are");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn targets_move_after_the_load_balancers() {
        let moves = [balancers(&["172.16.2.7", "172.16.1.8"]), balancers(&["172.16.2.7", "172.16.2.8"])];
        let [before, after] = moves;
        let World { tasks, connections, leases, kernel, .. } = &world(2, before.clone());
        leases.send_modify(|status| status.moved = ["target-0-src".into()].into());
        sleep(BALANCER_TIMEOUT / 2).await;
        assert_eq!(down(connections), 0, "one load balancer has no address in the new subnet");
        kernel.send_replace(after);
        sleep(PACE).await;
        assert_eq!(down(connections), 1);
        tasks.stop().await;

        let World { tasks, connections, leases, .. } = &world(2, before);
        leases.send_modify(|status| status.moved = ["target-0-src".into()].into());
        sleep(BALANCER_TIMEOUT * 2).await;
        assert_eq!(down(connections), 1, "a load balancer that may have died is not waited for");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_has_its_new_addresses_is_left_alone() {
        let World { tasks, connections, leases, .. } = &world(2, balancers(&[]));
        let names = ["target-0-src", "target-1-dst@0123"].map(Into::into);
        leases.send_modify(|status| status.moved = names.into());
        sleep(FOLLOWED + PACE / 2).await;
        assert_eq!(down(connections), 1);
        leases.send_modify(|status| status.moved.clear());
        sleep(10 * PACE).await;
        assert_eq!(down(connections), 1, "the other one has refreshed meanwhile");
        tasks.stop().await;
    }
}
