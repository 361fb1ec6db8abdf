// SPDX-License-Identifier: Apache-2.0

//! Pairs of addresses, and the connections that hold them.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;

use super::{Groups, free::Free};

/// The pairs of all groups. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: Free,
    pairs: usize,
}

/// The two addresses of a connection. Returned to the pool on drop.
#[derive(Debug)]
pub(super) struct Pair {
    /// Address of the client.
    pub(super) src: IpAddr,
    /// Address of the endpoint.
    pub(super) dst: IpAddr,
    pool: Pool,
}

impl Pool {
    pub(super) fn new(groups: &Groups) -> Self {
        Self(Arc::new(Mutex::new(State { free: Free::of(groups.prefixes()), pairs: 0 })))
    }

    /// Number of pairs that are held.
    pub(super) fn pairs(&self) -> usize {
        self.state().pairs
    }

    /// The two lowest free addresses of the first prefix that has two: the endpoint's is the lower.
    pub(super) fn lowest(&self, group: &[IpNet], excluded: &[IpNet]) -> Option<Pair> {
        let mut state = self.state();
        group.iter().find_map(|prefix| {
            let dst = state.free.take_lowest(prefix, excluded)?;
            let Some(src) = state.free.take_lowest(prefix, excluded) else {
                state.free.put(dst);
                return None;
            };
            state.pairs += 1;
            Some(Pair { src, dst, pool: self.clone() })
        })
    }

    /// A pair of one of these clients' and one of these endpoints' addresses, of the first prefix
    /// of the group in which both are free.
    pub(super) fn recover(&self, group: &[IpNet], clients: &[IpAddr], endpoints: &[IpAddr]) -> Option<Pair> {
        let mut state = self.state();
        group.iter().find_map(|prefix| {
            let src = take_first(&mut state.free, prefix, clients)?;
            let Some(dst) = take_first(&mut state.free, prefix, endpoints) else {
                state.free.put(src);
                return None;
            };
            state.pairs += 1;
            Some(Pair { src, dst, pool: self.clone() })
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_first(free: &mut Free, prefix: &IpNet, addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| prefix.contains(address) && free.take(*address))
}

impl Pair {
    /// Whether one of the addresses is in one of the prefixes.
    pub(super) fn is_in(&self, prefixes: &[IpNet]) -> bool {
        prefixes.iter().any(|prefix| prefix.contains(&self.src) || prefix.contains(&self.dst))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.free.put(self.src);
        state.free.put(self.dst);
        state.pairs -= 1;
    }
}
