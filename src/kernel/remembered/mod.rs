// SPDX-License-Identifier: Apache-2.0

//! The state that the reconciler remembers from earlier dumps, as far as the next step depends on
//! it.
//!
//! It belongs to the reconciler alone and changes only with a read of the kernel.

mod former;
mod leaving;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tokio::time::Instant;

use self::{former::Former, leaving::Leaving};
use super::{
    Observed, Rule, Settings,
    adoption::Adoption,
    claims::{Declared, Notes},
    vip_list::VipList,
    vip_rules,
};
use crate::api::{Dual, Family, InterfaceName};

/// State remembered from earlier dumps.
#[derive(Default)]
pub(super) struct Remembered {
    /// Objects that an earlier process left; `None` before the first dump.
    pub(super) adoption: Option<Adoption>,
    /// Links that are claimed.
    pub(super) links: BTreeMap<InterfaceName, Watched>,
    /// Links that were claimed, or left by an earlier process, and no longer are.
    pub(super) leaving: Leaving,
    /// Addresses that the bridge had before its gateways.
    pub(super) former: Former,
    /// The VIPs in effect.
    pub(super) vips: VipList,
    /// For each family, the next hops of the last moment at which at least one answered.
    pub(super) answering: Dual<BTreeSet<IpAddr>>,
    /// Next hops that the kernel does not accept in a route.
    pub(super) refused: BTreeMap<IpAddr, RefusedHop>,
}

/// A claimed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// When it was first seen to be claimed, or last seen to be gone.
    pub(super) since: Instant,
    /// A dump has shown it.
    seen: bool,
    /// Its index while it is a port.
    port: Option<u32>,
}

/// A next hop that the kernel does not accept in a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedHop {
    /// The kernel's answer.
    pub(super) answer: String,
    /// When it is tried again.
    until: Instant,
}

impl Remembered {
    /// Takes a dump and the declarations so far; the first dump decides which objects are adopted.
    /// Returns the addresses that may be behind another link than at the last read.
    pub(super) fn look(
        &mut self,
        declared: &Declared,
        notes: Notes,
        observed: &Observed,
        settings: &Settings,
        now: Instant,
    ) -> BTreeSet<IpAddr> {
        self.adopt(declared, observed, settings, now);
        self.vips.take(declared.vips.as_ref(), now + settings.empty_vips_grace);
        self.vips.expire(now);
        self.leave(declared, &notes, observed, settings, now);
        let mut relinked = notes.relinked;
        relinked.extend(self.watch(declared, observed, settings, now));
        if self.former.follow(declared, self.adoption.as_ref(), settings, now) {
            self.refused.clear();
        }
        self.refused.retain(|hop, refused| now < refused.until && !relinked.contains(hop));
        relinked
    }

    fn adopt(&mut self, declared: &Declared, observed: &Observed, settings: &Settings, now: Instant) {
        if self.adoption.is_some() {
            return;
        }
        let adoption = Adoption::of(observed, &settings.ours);
        if adoption != Adoption::default() {
            tracing::info!(
                links = adoption.peers.values().map(|left| left.links.len()).sum::<usize>(),
                next_hops = adoption.peers.values().map(|left| left.next_hops.len()).sum::<usize>(),
                vips = adoption.vips,
                "an earlier process left state in the kernel: it is kept until its place is taken"
            );
        }
        self.vips = match settings.restored_vips.as_slice() {
            [] => VipList::after(adoption.vips),
            vips => VipList::restored(with_left(vips, observed, settings)),
        };
        self.former = Former::of(observed);
        let links = declared.peers.values().flat_map(|peer| peer.links());
        self.links =
            links.map(|link| (link.clone(), Watched { since: now, seen: false, port: None })).collect();
        self.adoption = Some(adoption);
    }

    /// Moves links that are no longer claimed to the leaving ones, and forgets those that have
    /// left.
    fn leave(
        &mut self,
        declared: &Declared,
        notes: &Notes,
        observed: &Observed,
        settings: &Settings,
        now: Instant,
    ) {
        let until = now + settings.adoption;
        let ours = &settings.ours;
        let adoption = self.adoption.as_mut();
        let adopted =
            adoption.map(|it| it.release(declared, &notes.withdrawn, observed, ours)).unwrap_or_default();
        for link in &adopted {
            tracing::info!(%link, "a port of an earlier process has a successor, or its load balancer is gone: it leaves the bridge");
        }
        adopted.into_iter().for_each(|link| self.leaving.insert(link, until, true));
        for link in &notes.released {
            let seen = self.links.get(link).is_some_and(|link| link.seen);
            self.leaving.insert(link.clone(), until, seen);
        }
        if !self.leaving.is_empty() {
            declared.peers.values().flat_map(|peer| peer.links()).for_each(|link| self.leaving.remove(link));
        }
        self.leaving.expire(|link| observed.link(link).is_some(), now, declared.stopping);
    }

    /// Compares the claimed links with the last read, and returns the addresses that are behind
    /// another link than before. A forwarder may replace a link while its connection continues.
    /// Only ports count: before a link is a port, no neighbour can be resolved over it.
    fn watch(
        &mut self,
        declared: &Declared,
        observed: &Observed,
        settings: &Settings,
        now: Instant,
    ) -> BTreeSet<IpAddr> {
        let bridge = observed.bridge(&settings.ours).map(|bridge| bridge.index);
        let mut links = Vec::with_capacity(self.links.len() + 1);
        let mut relinked = BTreeSet::new();
        for peer in declared.peers.values() {
            let mut changed = false;
            for name in peer.links() {
                let link = observed.link(name);
                let port =
                    link.filter(|link| bridge.is_some() && link.controller == bridge).map(|link| link.index);
                let was =
                    self.links.get(name).copied().unwrap_or(Watched { since: now, seen: false, port: None });
                let since = if link.is_some() { now } else { was.since };
                changed |= was.port != port;
                links.push((name.clone(), Watched { since, seen: was.seen || link.is_some(), port }));
            }
            if changed {
                relinked.extend(peer.far());
            }
        }
        self.links = links.into_iter().collect();
        relinked
    }

    /// Remembers the next hops of each family that should be installed, so that the last ones can
    /// stay if all become silent.
    pub(super) fn keep(&mut self, next_hops: &BTreeSet<IpAddr>) {
        for family in Family::BOTH {
            let hops: BTreeSet<_> =
                next_hops.iter().copied().filter(|hop| Family::of(*hop) == family).collect();
            if !hops.is_empty() {
                *self.answering.slot(family) = Some(hops);
            }
        }
    }

    /// Remembers next hops that the kernel has not accepted in a route: they are left out for a
    /// while.
    pub(super) fn refuse(&mut self, refused: BTreeMap<IpAddr, String>, until: Instant) {
        let refused = refused.into_iter().map(|(hop, answer)| (hop, RefusedHop { answer, until }));
        self.refused.extend(refused);
    }
}

/// The rules of some VIPs, and of those in the rules of an earlier process, which may have had
/// newer ones.
fn with_left(vips: &[IpNet], observed: &Observed, settings: &Settings) -> BTreeSet<Rule> {
    let left = observed.rules.iter().filter(|rule| rule.routes_vip(&settings.ours));
    let all: Vec<_> = left.filter_map(|rule| rule.source).chain(vips.iter().copied()).collect();
    vip_rules(&settings.ours, &all)
}
