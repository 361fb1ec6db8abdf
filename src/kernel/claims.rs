// SPDX-License-Identifier: Apache-2.0

//! Collect what everyone declares, and make one desired state of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use tokio::{sync::Notify, time::Instant};

use super::{
    Degraded, Desired, Observed, Settings, adoption::Adoption, observed::LinkKind, vip_list::VipList,
};
use crate::api::{Dual, InterfaceName};

/// What the handle and its guards share with the reconciler.
pub(super) struct Claims {
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// Something was declared.
    pub(super) changed: Notify,
}

/// Holders of one thing, by guard, with the owner's name.
type Holders = BTreeMap<u64, String>;

#[derive(Default)]
pub(super) struct State {
    /// Counts declarations.
    pub(super) revision: u64,
    guards: u64,
    ports: BTreeMap<InterfaceName, Holders>,
    next_hops: BTreeMap<IpAddr, Holders>,
    /// Next hops that were claimed since the last pass and had no holder before.
    anew: BTreeSet<IpAddr>,
    /// Links that were claimed, or left by an earlier process, and are no longer; and until when they are watched even if they do
    /// not exist, as a forwarder may still make one whose Request has failed.
    leaving: BTreeMap<InterfaceName, Instant>,
    /// Of these, the ones that nobody has claimed.
    orphans: BTreeSet<InterfaceName>,
    gateways: Dual<IpNet>,
    /// Addresses that the bridge had under earlier gateways, and when they go.
    former: BTreeMap<IpNet, Instant>,
    vips: VipList,
    adoption: Option<Adoption>,
    mesh_settled: bool,
    stopping: bool,
}

/// A snapshot of everything that was declared.
pub(super) struct Snapshot {
    pub(super) revision: u64,
    pub(super) desired: Desired,
    pub(super) gateways: Dual<IpNet>,
    pub(super) degraded: Vec<Degraded>,
    pub(super) orphans: BTreeSet<InterfaceName>,
    /// When time alone changes the desired state.
    pub(super) due: Option<Instant>,
}

impl Claims {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, state: Mutex::default(), changed: Notify::new() }
    }

    /// Declare something and wake the reconciler.
    pub(super) fn declare<T>(&self, declare: impl FnOnce(&mut State, &Settings) -> T) -> T {
        let result = {
            let mut state = self.lock();
            state.revision += 1;
            declare(&mut state, &self.settings)
        };
        self.changed.notify_one();
        result
    }

    /// Next hops that were claimed anew since the last call: another link may be behind the address.
    pub(super) fn claimed_anew(&self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.lock().anew)
    }

    pub(super) fn revision(&self) -> u64 {
        self.lock().revision
    }

    pub(super) fn stopping(&self) -> bool {
        self.lock().stopping
    }

    /// What should be true, given a dump; the first dump decides what is adopted.
    pub(super) fn snapshot(&self, observed: &Observed, now: Instant) -> Snapshot {
        let mut state = self.lock();
        state.adopt(observed, &self.settings, now);
        state.expire(observed, now);
        state.snapshot(observed, &self.settings, now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn claim_port(&mut self, name: &InterfaceName, owner: &str) -> u64 {
        self.guards += 1;
        self.leaving.remove(name);
        self.orphans.remove(name);
        if let Some(adoption) = &mut self.adoption {
            adoption.ports.remove(name);
        }
        self.ports.entry(name.clone()).or_default().insert(self.guards, owner.to_owned());
        self.guards
    }

    pub(super) fn release_port(&mut self, name: &InterfaceName, guard: u64, settings: &Settings) {
        if release(&mut self.ports, name, guard) {
            self.leaving.insert(name.clone(), Instant::now() + settings.adoption);
        }
    }

    pub(super) fn claim_next_hop(&mut self, address: IpAddr, owner: &str) -> u64 {
        self.guards += 1;
        if let Some(adoption) = &mut self.adoption {
            adoption.next_hops.remove(&address);
        }
        if !self.next_hops.contains_key(&address) {
            self.anew.insert(address);
        }
        self.next_hops.entry(address).or_default().insert(self.guards, owner.to_owned());
        self.guards
    }

    pub(super) fn release_next_hop(&mut self, address: IpAddr, guard: u64) {
        release(&mut self.next_hops, &address, guard);
    }

    pub(super) fn set_gateways(&mut self, gateways: Dual<IpNet>, settings: &Settings) {
        let goes = Instant::now() + settings.adoption;
        let before = std::mem::replace(&mut self.gateways, gateways);
        self.former.extend(before.iter().map(|(_, net)| (*net, goes)));
        self.former.retain(|net, _| self.gateways.iter().all(|(_, now)| now != net));
    }

    pub(super) fn set_vips(&mut self, vips: &[IpNet], settings: &Settings) {
        let kept = self.adoption.as_ref().is_none_or(|adoption| adoption.vips);
        self.vips.set(&settings.ours, vips, kept, Instant::now() + settings.empty_vips_grace);
    }

    pub(super) fn mesh_settled(&mut self) {
        self.mesh_settled = true;
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    fn adopt(&mut self, observed: &Observed, settings: &Settings, now: Instant) {
        if self.adoption.is_some() {
            return;
        }
        let mut adoption = Adoption::of(observed, &settings.ours, now + settings.adoption);
        adoption.ports.retain(|name, _| !self.ports.contains_key(name) && !self.leaving.contains_key(name));
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

    fn expire(&mut self, observed: &Observed, now: Instant) {
        self.vips.expire(now);
        self.former.retain(|_, goes| now < *goes);
        let mesh_settled = self.mesh_settled;
        if let Some(adoption) = &mut self.adoption {
            let orphans = adoption.release(now, mesh_settled);
            for name in &orphans {
                tracing::warn!(%name, "an earlier process left this port and nobody claimed it: it is taken out of the bridge");
            }
            self.leaving.extend(orphans.iter().map(|name| (name.clone(), now)));
            self.orphans.extend(orphans);
        }
        let exists = |name: &InterfaceName| observed.link(name).is_some();
        let watched = |until: &Instant| now < *until && !self.stopping;
        self.leaving.retain(|name, until| exists(name) || watched(until));
        self.orphans.retain(exists);
    }

    fn snapshot(&self, observed: &Observed, settings: &Settings, now: Instant) -> Snapshot {
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
            leaving: self.leaving.keys().cloned().collect(),
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
        out.extend(self.vips.refused().map(Degraded::TooManyVips));
        let adopted = self.adoption.as_ref().is_some_and(|adoption| !adoption.is_empty());
        out.extend(adopted.then_some(Degraded::Adopted));
        out
    }

    /// When time changes something next. What is over and still there (links that others have not removed) counts no more.
    fn due(&self, now: Instant) -> Option<Instant> {
        let adoption = self.adoption.as_ref().and_then(Adoption::due);
        let expiring = self.former.values().chain(self.leaving.values()).copied();
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

/// Remove a guard; true if it was the last holder.
fn release<K: Ord>(claims: &mut BTreeMap<K, Holders>, key: &K, guard: u64) -> bool {
    let Some(holders) = claims.get_mut(key) else { return false };
    holders.remove(&guard);
    let last = holders.is_empty();
    if last {
        claims.remove(key);
    }
    last
}
