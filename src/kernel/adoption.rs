// SPDX-License-Identifier: Apache-2.0

//! Keeps the objects that an earlier process left in the kernel until they have a successor, or
//! their load balancer is known to be gone.
//!
//! The earlier process may have been this program or the Go proxy. These objects still carry
//! traffic, so all of them become records at the first dump: a port with a forwarder's alias
//! belongs to the connection that the alias names, and each next hop gets a record of its own,
//! because nothing in the kernel connects it with a link. Ports without such an alias are not ours.
//!
//! A record is released neither by time nor by an attempt that failed, but only when:
//! 1. Its link or its next hop is claimed: the record of that connection owns it from then on.
//! 2. Its link is gone.
//! 3. Another link of the same load balancer carries frames: the old one leaves. (Forwarders remove
//!    those of targets.)
//! 4. Its connection leads to a load balancer that the registry does not have. The registry's list
//!    must be complete, not empty, and newer than the moment at which the proxy became ready. For a
//!    lone next hop, the addresses of all load balancers must be known.
//! 5. Its next hop is withdrawn, so that its link can be replaced.
//!
//! VIP rules are released by the first VIP list; until then they are not touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Attachment, Observed, Ours, PeerId, Role, claims::Declared};
use crate::api::{Family, InterfaceName};

/// The objects that an earlier process left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Adoption {
    pub(super) peers: BTreeMap<PeerId, Left>,
    /// There were VIP rules.
    pub(super) vips: bool,
}

/// The objects that an earlier process left of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Its links, all ports of the bridge; none for a lone next hop.
    pub(super) links: BTreeSet<InterfaceName>,
    pub(super) next_hops: BTreeSet<IpAddr>,
}

impl Adoption {
    /// Creates records of the objects in the first dump.
    pub(super) fn of(observed: &Observed, ours: &Ours) -> Self {
        let mut peers = BTreeMap::<PeerId, Left>::new();
        let ports = observed.bridge(ours).into_iter().flat_map(|bridge| observed.ports_of(bridge.index));
        for (name, link) in ports {
            if let Some(peer) = link.alias.as_deref().and_then(PeerId::of_alias) {
                peers.entry(peer).or_default().links.insert(name.clone());
            }
        }
        for hop in Family::BOTH.iter().flat_map(|family| observed.next_hops(*family)) {
            let lone = PeerId::load_balancer(&hop.via.to_string());
            peers.entry(lone).or_default().next_hops.insert(hop.via);
        }
        Self { peers, vips: observed.rules.iter().any(|rule| rule.routes_vip(ours)) }
    }

    /// Releases the records that have a reason to go; returns the links that have to leave the
    /// bridge.
    pub(super) fn release(
        &mut self,
        declared: &Declared,
        withdrawn: &BTreeSet<IpAddr>,
        observed: &Observed,
        ours: &Ours,
    ) -> BTreeSet<InterfaceName> {
        if self.peers.is_empty() {
            return BTreeSet::new();
        }
        let claimed: BTreeSet<_> = declared.peers.values().flat_map(|peer| peer.links()).collect();
        let hops: BTreeSet<_> = declared.peers.values().flat_map(|peer| peer.next_hops()).collect();
        let registry = Registry::of(declared);
        let mut leaving = BTreeSet::new();
        self.peers.retain(|id, left| {
            let linked = !left.links.is_empty();
            left.links.retain(|link| !claimed.contains(link) && observed.link(link).is_some());
            left.next_hops.retain(|hop| !hops.contains(hop) && !withdrawn.contains(hop));
            let declared = declared.peers.get(id).filter(|_| id.role == Role::LoadBalancer);
            let successor = declared.is_some_and(|peer| {
                peer.links().any(|link| Attachment::of(link, observed, ours) == Attachment::Running)
            });
            let gone = registry.as_ref().is_some_and(|registry| registry.lacks(id, linked));
            if successor || gone {
                leaving.append(&mut left.links);
                return false;
            }
            !left.links.is_empty() || (!linked && !left.next_hops.is_empty())
        });
        leaving
    }

    /// All links that the records keep in the bridge.
    pub(super) fn links(&self) -> impl Iterator<Item = &InterfaceName> {
        self.peers.values().flat_map(|left| &left.links)
    }
}

/// The list of load balancers in the registry, by which a record may be released.
struct Registry<'a> {
    declared: &'a Declared,
    ids: &'a BTreeSet<String>,
    /// The addresses of all its load balancers are known.
    addressed: bool,
}

impl<'a> Registry<'a> {
    fn of(declared: &'a Declared) -> Option<Self> {
        let ids = declared.registered.as_deref().filter(|ids| !ids.is_empty())?;
        let addressed = ids.iter().all(|id| {
            let peer = declared.peers.get(&PeerId::load_balancer(id));
            peer.is_some_and(|peer| peer.next_hops().next().is_some())
        });
        Some(Self { declared, ids, addressed })
    }

    /// Whether the load balancer of a record is known to be gone.
    fn lacks(&self, id: &PeerId, linked: bool) -> bool {
        let unknown = if linked { !self.ids.contains(&*id.id) } else { self.addressed };
        id.role == Role::LoadBalancer && unknown && !self.declared.peers.contains_key(id)
    }
}
