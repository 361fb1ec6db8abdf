// SPDX-License-Identifier: Apache-2.0
//! A store of registrations that notifies its watchers.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt, future::ready, stream};
use tokio::{sync::broadcast, time::Instant};
use tokio_stream::wrappers::BroadcastStream;

/// Maximum number of changes that a watcher may be behind. One that is further behind ends, and
/// starts again with the complete list.
const BEHIND: usize = 256;
/// Maximum number of entries.
const MAX_ENTRIES: usize = 4096;

/// A registration, with its expiry.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The registered value.
    pub value: T,
    /// When it is dropped unless it is registered again; `None` if it is permanent.
    pub until: Option<Instant>,
}

/// An entry was set or dropped.
#[derive(Clone, Debug)]
pub struct Change<T> {
    /// The present or last value of the entry.
    pub value: T,
    /// Whether it was dropped.
    pub deleted: bool,
}

/// Entries by name.
pub struct Store<T> {
    entries: Mutex<BTreeMap<String, Entry<T>>>,
    changes: broadcast::Sender<Change<T>>,
}

impl<T: Clone> Default for Store<T> {
    fn default() -> Self {
        Self { entries: Mutex::default(), changes: broadcast::channel(BEHIND).0 }
    }
}

impl<T: Clone> Store<T> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets an entry. `false` if there is no room for another.
    pub fn set(&self, name: &str, entry: Entry<T>) -> bool {
        let mut entries = self.lock();
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(name) {
            return false;
        }
        entries.insert(name.to_owned(), entry.clone());
        let _ = self.changes.send(Change { value: entry.value, deleted: false });
        true
    }

    /// Drops an entry.
    pub fn remove(&self, name: &str) -> Option<T> {
        let mut entries = self.lock();
        let value = entries.remove(name)?.value;
        let _ = self.changes.send(Change { value: value.clone(), deleted: true });
        Some(value)
    }

    /// The entry of a name.
    pub fn get(&self, name: &str) -> Option<T> {
        self.lock().get(name).map(|entry| entry.value.clone())
    }

    /// All entries, by name.
    pub fn all(&self) -> Vec<T> {
        self.lock().values().map(|entry| entry.value.clone()).collect()
    }

    /// All entries and every change that follows, without a gap.
    pub fn watch(&self) -> (Vec<T>, broadcast::Receiver<Change<T>>) {
        let entries = self.lock();
        let changes = self.changes.subscribe();
        (entries.values().map(|entry| entry.value.clone()).collect(), changes)
    }

    /// All entries as changes and, for a watcher, every later change. A watcher that fell behind
    /// ends; it starts again with the complete list.
    pub fn find(&self, watch: bool) -> impl Stream<Item = Change<T>> + Send + use<T>
    where
        T: Send + 'static,
    {
        let (all, changes) = self.watch();
        let now = stream::iter(all).map(|value| Change { value, deleted: false });
        let later = BroadcastStream::new(changes).take_while(|change| ready(change.is_ok()));
        let later = later.filter_map(|change| ready(change.ok()));
        if watch { now.chain(later).left_stream() } else { now.right_stream() }
    }

    /// Drops expired entries; returns the time of the next expiry.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        let mut entries = self.lock();
        let names: Vec<_> = entries
            .iter()
            .filter(|(_, entry)| entry.until.is_some_and(|until| until <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if let Some(entry) = entries.remove(&name) {
                let _ = self.changes.send(Change { value: entry.value, deleted: true });
            }
        }
        entries.values().filter_map(|entry| entry.until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(value: u8, until: Option<Instant>) -> Entry<u8> {
        Entry { value, until }
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_entry_is_dropped_and_reported_to_watchers() {
        let store = Store::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert!(store.set("stays", entry(1, None)) && store.set("goes", entry(2, Some(now + second))));
        let (all, mut changes) = store.watch();
        assert_eq!(all, [2, 1]);
        assert_eq!(store.expire(now), Some(now + second));
        assert!(store.set("goes", entry(3, Some(now + 3 * second))));
        assert_eq!(store.expire(now + 2 * second), Some(now + 3 * second), "it was set again in time");
        assert_eq!(store.expire(now + 3 * second), None);
        assert_eq!(store.all(), [1]);
        let seen: Vec<_> = [changes.recv().await, changes.recv().await]
            .map(|change| change.map(|change| (change.value, change.deleted)).unwrap())
            .into();
        assert_eq!(seen, [(3, false), (3, true)]);
        assert_eq!((store.remove("stays"), store.remove("stays")), (Some(1), None));
    }
}
