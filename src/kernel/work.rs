// SPDX-License-Identifier: Apache-2.0

//! Counts and measures the work of the prober and of the announcer, for metrics.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Numbers since the start. They are read at any time, and nothing waits for a reader.
#[derive(Debug, Default)]
pub struct Work {
    probes: AtomicU64,
    silences: AtomicU64,
    announcements: AtomicU64,
    answers: Mutex<BTreeMap<IpAddr, Duration>>,
    observer: Observer,
}

/// Receives the time of each answer.
#[derive(Default)]
struct Observer(OnceLock<Box<dyn Fn(Duration) + Send + Sync>>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.get().is_some()).finish()
    }
}

impl Work {
    /// Answers of load balancers that were looked for.
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Times that a load balancer was found silent.
    pub fn silences(&self) -> u64 {
        self.silences.load(Ordering::Relaxed)
    }

    /// Announcements of addresses that were sent.
    pub fn announcements(&self) -> u64 {
        self.announcements.load(Ordering::Relaxed)
    }

    /// Time from the last answered solicitation of each next hop that answers to its answer; up to
    /// 10 ms too long.
    pub(crate) fn answers(&self) -> BTreeMap<IpAddr, Duration> {
        self.lock().clone()
    }

    /// Passes the time of each later answer to an observer, which must not block. The first one
    /// stays.
    pub(crate) fn observe(&self, observer: impl Fn(Duration) + Send + Sync + 'static) {
        let _first = self.observer.0.set(Box::new(observer));
    }

    pub(super) fn probed(&self, addresses: usize) {
        self.probes.fetch_add(addresses as u64, Ordering::Relaxed);
    }

    pub(super) fn silenced(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn announced(&self) {
        self.announcements.fetch_add(1, Ordering::Relaxed);
    }

    /// A next hop has answered a solicitation after this time.
    pub(crate) fn answered(&self, address: IpAddr, took: Duration) {
        self.lock().insert(address, took);
        if let Some(observer) = self.observer.0.get() {
            observer(took);
        }
    }

    /// A next hop is gone or silent.
    pub(super) fn forget(&self, address: IpAddr) {
        self.lock().remove(&address);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Duration>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
