// SPDX-License-Identifier: Apache-2.0

//! Collects the declarations of all callers.
//!
//! This module holds only the declarations made through the handle, behind a mutex that is held for
//! moments. The state that the reconciler remembers about the kernel belongs to the reconciler: see
//! `remembered.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use tokio::{sync::Notify, time::Instant};

use super::{Ends, PeerId, Rule, Settings, Work};
use crate::api::{Dual, InterfaceName};

/// State that the handle and its guards share with the reconciler.
pub(super) struct Claims {
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// Something was declared.
    pub(super) changed: Notify,
    pub(super) work: Arc<Work>,
}

#[derive(Default)]
pub(super) struct State {
    declared: Declared,
    notes: Notes,
    guards: u64,
}

/// All declarations at a moment.
#[derive(Clone, Default)]
pub(super) struct Declared {
    /// Counts declarations.
    pub(super) revision: u64,
    /// Shared with the pass that has taken them.
    pub(super) peers: Arc<BTreeMap<PeerId, Arc<Claimed>>>,
    pub(super) gateways: Dual<IpNet>,
    /// Rules of the last list of VIPs; none before the first.
    pub(super) vips: Option<Arc<BTreeSet<Rule>>>,
    /// Whether neighbours answer, as last reported.
    pub(super) answers: BTreeMap<IpAddr, bool>,
    /// Connections in doubt, with a guard for each reason.
    pub(super) doubted: BTreeMap<PeerId, BTreeSet<u64>>,
    /// Connection ids of all load balancers that the registry has.
    pub(super) registered: Option<Arc<BTreeSet<String>>>,
    /// When the proxy became ready.
    pub(super) ready: Option<Instant>,
    pub(super) stopping: bool,
}

/// The claims on one connection, by guard.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed {
    links: BTreeMap<u64, (InterfaceName, Ends)>,
    next_hops: BTreeMap<u64, IpAddr>,
}

/// Declarations since the reconciler last took them that are not visible in [`Declared`].
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Links that have lost their last guard.
    pub(super) released: BTreeSet<InterfaceName>,
    /// Next hops that may be behind another link than before.
    pub(super) relinked: BTreeSet<IpAddr>,
    /// Next hops of an earlier process to withdraw.
    pub(super) withdrawn: BTreeSet<IpAddr>,
}

impl Claims {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, state: Mutex::default(), changed: Notify::new(), work: Arc::default() }
    }

    /// Changes the declarations and wakes the reconciler.
    pub(super) fn declare<T>(&self, declare: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.lock();
            state.declared.revision += 1;
            declare(&mut state)
        };
        self.changed.notify_one();
        result
    }

    /// The current declarations, and the notes since the last call.
    pub(super) fn take(&self) -> (Declared, Notes) {
        let mut state = self.lock();
        (state.declared.clone(), std::mem::take(&mut state.notes))
    }

    pub(super) fn revision(&self) -> u64 {
        self.lock().declared.revision
    }

    pub(super) fn stopping(&self) -> bool {
        self.lock().declared.stopping
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claimed {
    /// Names of the links.
    pub(super) fn links(&self) -> impl Iterator<Item = &InterfaceName> {
        self.links.values().map(|(name, _)| name)
    }

    /// Addresses that should be next hops.
    pub(super) fn next_hops(&self) -> impl Iterator<Item = IpAddr> {
        self.next_hops.values().copied()
    }

    /// Addresses of the other end.
    pub(super) fn far(&self) -> impl Iterator<Item = IpAddr> {
        self.links.values().flat_map(|(_, ends)| ends.far.iter().copied()).chain(self.next_hops())
    }

    /// All addresses of the connection, at either end.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.links.values().flat_map(|(_, ends)| ends.near.iter().copied()).chain(self.far())
    }
}

impl State {
    pub(super) fn claim_port(&mut self, peer: &PeerId, link: InterfaceName, ends: Ends) -> u64 {
        let guard = self.guard();
        self.peer(peer).links.insert(guard, (link, ends));
        guard
    }

    pub(super) fn release_port(&mut self, peer: &PeerId, guard: u64) {
        if let Some((link, _)) = self.release(peer, |claimed| claimed.links.remove(&guard))
            && !self.declared.peers.values().any(|peer| peer.links().any(|other| *other == link))
        {
            self.notes.released.insert(link);
        }
    }

    pub(super) fn claim_next_hop(&mut self, peer: &PeerId, address: IpAddr) -> u64 {
        let guard = self.guard();
        let claimed = self.peer(peer);
        let anew = claimed.next_hops().all(|other| other != address);
        claimed.next_hops.insert(guard, address);
        if anew {
            self.notes.relinked.insert(address);
        }
        guard
    }

    pub(super) fn release_next_hop(&mut self, peer: &PeerId, guard: u64) {
        self.release(peer, |claimed| claimed.next_hops.remove(&guard));
    }

    pub(super) fn relink(&mut self, address: IpAddr) {
        if self.declared.peers.values().any(|claimed| claimed.next_hops().any(|other| other == address)) {
            self.notes.relinked.insert(address);
        }
    }

    pub(super) fn withdraw(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.notes.withdrawn.extend(addresses);
    }

    pub(super) fn set_answers(&mut self, address: IpAddr, answers: bool) {
        self.declared.answers.insert(address, answers);
    }

    pub(super) fn forget_answers(&mut self, address: IpAddr) {
        self.declared.answers.remove(&address);
    }

    pub(super) fn doubt(&mut self, peer: &PeerId) -> u64 {
        let guard = self.guard();
        self.declared.doubted.entry(peer.clone()).or_default().insert(guard);
        guard
    }

    pub(super) fn trust(&mut self, peer: &PeerId, guard: u64) {
        if let Some(reasons) = self.declared.doubted.get_mut(peer) {
            reasons.remove(&guard);
            if reasons.is_empty() {
                self.declared.doubted.remove(peer);
            }
        }
    }

    /// A list from before the proxy was ready is ignored.
    pub(super) fn set_registered(&mut self, ids: BTreeSet<String>) {
        if self.declared.ready.is_some() {
            self.declared.registered = Some(Arc::new(ids));
        }
    }

    pub(super) fn set_gateways(&mut self, gateways: Dual<IpNet>) {
        self.declared.gateways = gateways;
    }

    pub(super) fn set_vips(&mut self, rules: Arc<BTreeSet<Rule>>) {
        self.declared.vips = Some(rules);
    }

    pub(super) fn ready(&mut self) {
        self.declared.ready.get_or_insert_with(Instant::now);
    }

    pub(super) fn stop(&mut self) {
        self.declared.stopping = true;
    }

    fn guard(&mut self) -> u64 {
        self.guards += 1;
        self.guards
    }

    fn peer(&mut self, peer: &PeerId) -> &mut Claimed {
        let peers = Arc::make_mut(&mut self.declared.peers);
        Arc::make_mut(peers.entry(peer.clone()).or_default())
    }

    /// Removes a claim on a connection; the record goes with its last claim.
    fn release<T>(&mut self, peer: &PeerId, remove: impl FnOnce(&mut Claimed) -> Option<T>) -> Option<T> {
        let peers = Arc::make_mut(&mut self.declared.peers);
        let claimed = Arc::make_mut(peers.get_mut(peer)?);
        let removed = remove(claimed);
        if claimed.links.is_empty() && claimed.next_hops.is_empty() {
            peers.remove(peer);
        }
        removed
    }
}
