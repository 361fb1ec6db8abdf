// SPDX-License-Identifier: Apache-2.0

//! Make one desired state of what everyone declares, at a moment and given a dump.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{Holders, State};
use crate::{
    api::{Dual, InterfaceName},
    kernel::{Degraded, Desired, LinkKind, Observed, Ours, Settings, adoption::Adoption},
};

/// A snapshot of everything that was declared.
pub(in crate::kernel) struct Snapshot {
    pub(in crate::kernel) revision: u64,
    pub(in crate::kernel) desired: Desired,
    pub(in crate::kernel) gateways: Dual<IpNet>,
    pub(in crate::kernel) degraded: Vec<Degraded>,
    pub(in crate::kernel) orphans: BTreeSet<InterfaceName>,
    /// When time alone changes the desired state.
    pub(in crate::kernel) due: Option<Instant>,
}

impl State {
    pub(super) fn adopt(&mut self, observed: &Observed, settings: &Settings, now: Instant) {
        if self.adoption.is_some() {
            return;
        }
        let mut adoption = Adoption::of(observed, &settings.ours, now + settings.adoption);
        adoption.ports.retain(|name, _| !self.ports.contains_key(name) && !self.leaving.contains(name));
        adoption.next_hops.retain(|address| !self.next_hops.contains_key(address));
        if !adoption.vips {
            self.vips.nothing_kept();
        }
        if !adoption.is_empty() || adoption.vips {
            tracing::info!(
                ?adoption,
                "an earlier process left state in the kernel: it is kept until its place is taken"
            );
        }
        self.adoption = Some(adoption);
    }

    pub(super) fn expire(&mut self, observed: &Observed, now: Instant) {
        self.vips.expire(now);
        self.former.retain(|_, goes| now < *goes);
        let mesh_settled = self.mesh_settled;
        if let Some(adoption) = &mut self.adoption {
            let orphans = adoption.release(now, mesh_settled);
            for name in &orphans {
                tracing::warn!(%name, "an earlier process left this port and nobody claimed it: it is taken out of the bridge");
            }
            orphans.iter().for_each(|name| self.leaving.insert(name.clone(), now, true));
            self.orphans.extend(orphans);
        }
        let exists = |name: &InterfaceName| observed.link(name).is_some();
        self.leaving.expire(exists, now, self.stopping);
        self.orphans.retain(exists);
    }

    /// Find the ports that are other links than at the last look, and with them the next hops of the same owners. A forwarder may
    /// make a link anew while its connection goes on. Only what is a port counts: before, nobody could be asked by it.
    pub(super) fn look_at_links(&mut self, observed: &Observed, ours: &Ours) {
        let exists = |name: &&InterfaceName| observed.link(name).is_some();
        self.seen.extend(self.ports.keys().filter(exists).cloned());
        let bridge = observed.bridge(ours).map(|bridge| bridge.index);
        let attached = |(name, _): (&InterfaceName, &Holders)| {
            let link = observed.link(name)?;
            (bridge.is_some() && link.controller == bridge).then(|| (name.clone(), link.index))
        };
        let now: BTreeMap<_, _> = self.ports.iter().filter_map(attached).collect();
        let before = std::mem::replace(&mut self.attached, now);
        let other = |(name, _): &(&InterfaceName, &Holders)| self.attached.get(*name) != before.get(*name);
        let owners: BTreeSet<_> =
            self.ports.iter().filter(other).flat_map(|(_, held)| held.values()).collect();
        let theirs = |(_, held): &(&IpAddr, &Holders)| held.values().any(|owner| owners.contains(owner));
        self.anew.extend(self.next_hops.iter().filter(theirs).map(|(address, _)| *address));
    }

    pub(super) fn snapshot(&self, observed: &Observed, settings: &Settings, now: Instant) -> Snapshot {
        let addresses = self.addresses();
        let reachable = |hop: &IpAddr| {
            let nets = addresses.as_ref().unwrap_or(&observed.addresses);
            nets.iter().any(|net| net.contains(hop)) && nets.iter().all(|net| net.addr() != *hop)
        };
        let adopted = self.adoption.iter().flat_map(|adoption| &adoption.next_hops);
        let hops = self.next_hops.keys().chain(adopted).copied();
        let (next_hops, unreachable) = hops.partition::<BTreeSet<_>, _>(reachable);
        let adopted = self.adoption.iter().flat_map(|adoption| adoption.ports.keys());
        let desired = Desired {
            ours: settings.ours.clone(),
            mac: settings.mac,
            present: !self.stopping,
            ports: self.ports.keys().chain(adopted).cloned().collect(),
            leaving: self.leaving.names().cloned().collect(),
            next_hops,
            vip_rules: self.vips.rules(),
            addresses,
        };
        let degraded = self.degraded(observed, &desired, unreachable);
        let desired = if self.stopping { stopped(desired) } else { desired };
        let (revision, gateways, orphans) = (self.revision, self.gateways, self.orphans.clone());
        Snapshot { revision, desired, gateways, degraded, orphans, due: self.due(now) }
    }

    /// Addresses of the bridge, once the gateways are known.
    fn addresses(&self) -> Option<BTreeSet<IpNet>> {
        let adopted = self.adoption.iter().flat_map(|adoption| &adoption.addresses);
        let kept = self.former.keys().chain(adopted);
        let gateways = self.gateways.iter().map(|(_, net)| net);
        (!self.gateways.is_empty()).then(|| gateways.chain(kept).copied().collect())
    }

    fn degraded(
        &self,
        observed: &Observed,
        desired: &Desired,
        unreachable: BTreeSet<IpAddr>,
    ) -> Vec<Degraded> {
        let mut out: Vec<Degraded> = unreachable.into_iter().map(Degraded::Unreachable).collect();
        let ours = &desired.ours;
        if observed.link(&ours.bridge).is_some() && observed.bridge(ours).is_none() {
            out.push(Degraded::NameTaken(ours.bridge.clone()));
        }
        let not_a_port = |name: &&InterfaceName| {
            let primary = observed.link(name).is_some_and(|link| link.kind == LinkKind::Primary);
            primary || **name == ours.bridge
        };
        out.extend(desired.ports.iter().filter(not_a_port).cloned().map(Degraded::NotAPort));
        out.extend(self.vips.due().map(|_| Degraded::VipsHeld));
        let adopted = self.adoption.as_ref().is_some_and(|adoption| !adoption.is_empty());
        out.extend(adopted.then_some(Degraded::Adopted));
        out
    }

    /// When time changes something next. What is over and still there (links that others have not removed) counts no more.
    fn due(&self, now: Instant) -> Option<Instant> {
        let adoption = self.adoption.as_ref().and_then(Adoption::due);
        let expiring = self.former.values().copied().chain(self.leaving.due());
        adoption.into_iter().chain(self.vips.due()).chain(expiring).filter(|due| *due > now).min()
    }
}

/// What stays after a stop: ports that exist keep the bridge and its leak stop, but nothing leads out.
fn stopped(desired: Desired) -> Desired {
    Desired {
        next_hops: BTreeSet::new(),
        vip_rules: Some(Default::default()),
        ports: BTreeSet::new(),
        ..desired
    }
}
