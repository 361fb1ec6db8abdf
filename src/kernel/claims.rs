// SPDX-License-Identifier: Apache-2.0

//! Collect what everyone declares, and make one desired state of it.

mod leaving;
pub(super) mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use tokio::{sync::Notify, time::Instant};

use self::{leaving::Leaving, snapshot::Snapshot};
use super::{Observed, Settings, adoption::Adoption, vip_list::VipList};
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
    /// Next hops that may have another link behind them than before: claimed without a holder before, their owner's port is
    /// another link, or their owner says so.
    anew: BTreeSet<IpAddr>,
    /// Claimed links that were ports at the last look, by index.
    attached: BTreeMap<InterfaceName, u32>,
    /// Claimed links that a look has shown since they were claimed.
    seen: BTreeSet<InterfaceName>,
    /// Links that were claimed, or left by an earlier process, and are no longer.
    leaving: Leaving,
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

    /// Next hops that have got another link behind them since the last call, or may have.
    pub(super) fn linked_anew(&self) -> BTreeSet<IpAddr> {
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
        state.look_at_links(observed, &self.settings.ours);
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
            let seen = self.seen.remove(name);
            self.leaving.insert(name.clone(), Instant::now() + settings.adoption, seen);
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

    pub(super) fn link_anew(&mut self, address: IpAddr) {
        if self.next_hops.contains_key(&address) {
            self.anew.insert(address);
        }
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
