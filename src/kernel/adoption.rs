// SPDX-License-Identifier: Apache-2.0

//! Keep what an earlier process left in the kernel until its place is taken or nobody can want it any more.
//!
//! The earlier process may have been this program or the Go proxy. Traffic runs over what it left, so all of it becomes desired
//! state at the first dump, and each thing is released
//! 1. when the same thing is claimed (it then ends with its claim),
//! 2. next hops, and ports whose alias names a load balancer, when every load balancer has been tried once,
//! 3. everything when the time is up.
//!
//! VIP rules are released by the first VIP list: until then they are not touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{Observed, Ours};
use crate::api::{Family, InterfaceName};

/// Alias that a forwarder gives to the link of a connection that this pod is the client of: a load balancer is at the other end.
const LOAD_BALANCER: &str = "server-";

/// What is kept for the owner *adopted*.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) next_hops: BTreeSet<IpAddr>,
    /// Ports, and whether a load balancer is at the other end.
    pub(super) ports: BTreeMap<InterfaceName, bool>,
    pub(super) addresses: BTreeSet<IpNet>,
    /// There were VIP rules.
    pub(super) vips: bool,
    until: Instant,
}

impl Adoption {
    /// Keep what the first dump shows.
    pub(super) fn of(observed: &Observed, ours: &Ours, until: Instant) -> Self {
        let ports = observed.bridge(ours).into_iter().flat_map(|bridge| {
            observed.ports_of(bridge.index).map(|(name, link)| {
                let alias = link.alias.as_deref().unwrap_or_default();
                (name.clone(), alias.starts_with(LOAD_BALANCER))
            })
        });
        Self {
            next_hops: Family::BOTH.iter().flat_map(|f| observed.next_hops(*f)).map(|hop| hop.via).collect(),
            ports: ports.collect(),
            addresses: observed.addresses.clone(),
            vips: observed.rules.iter().any(|rule| rule.routes_vip(ours)),
            until,
        }
    }

    /// Release what is due, and return the ports that nobody has claimed.
    pub(super) fn release(&mut self, now: Instant, mesh_settled: bool) -> BTreeSet<InterfaceName> {
        let over = now >= self.until;
        if over || mesh_settled {
            self.next_hops.clear();
        }
        if over {
            self.addresses.clear();
        }
        let (released, kept) =
            mem::take(&mut self.ports).into_iter().partition(|(_, lb)| over || (*lb && mesh_settled));
        self.ports = kept;
        BTreeMap::into_keys(released).collect()
    }

    /// When the rest is released, if there is a rest.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.until)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next_hops.is_empty() && self.ports.is_empty() && self.addresses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn left(now: Instant) -> Adoption {
        Adoption {
            next_hops: ["172.16.1.2".parse().unwrap()].into(),
            ports: [("lb-1".parse().unwrap(), true), ("target-1".parse().unwrap(), false)].into(),
            addresses: ["172.16.1.1/24".parse().unwrap()].into(),
            vips: true,
            until: now + Duration::from_secs(60),
        }
    }

    fn names(names: &[&str]) -> BTreeSet<InterfaceName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn next_hops_and_ports_of_load_balancers_go_when_all_have_been_tried() {
        let now = Instant::now();
        let mut adoption = left(now);
        assert_eq!(adoption.release(now, false), names(&[]));
        assert_eq!(adoption.release(now, true), names(&["lb-1"]));
        assert!(adoption.next_hops.is_empty());
        assert_eq!(adoption.ports.len(), 1, "a target may come back later");
        assert_eq!(adoption.due(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn everything_goes_when_the_time_is_up() {
        let now = Instant::now();
        let mut adoption = left(now);
        assert_eq!(adoption.release(now + Duration::from_secs(60), false), names(&["lb-1", "target-1"]));
        assert!(adoption.is_empty() && adoption.due().is_none());
    }
}
