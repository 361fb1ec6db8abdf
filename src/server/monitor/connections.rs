// SPDX-License-Identifier: Apache-2.0

//! The connections of an endpoint and the streams that watch them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use prost::Message;
use tokio::sync::mpsc;

use super::{
    limits::{Limits, Refused},
    selector::matches,
    subscription::{Change, Subscription, event},
};
use crate::api::{
    Connection, State,
    pb::connection::{ConnectionEvent, ConnectionEventType, MonitorScopeSelector},
};

/// The connections of an endpoint, by the endpoint's own id of each, and their watchers. Clones
/// share them.
///
/// Publishing never waits: if the queue of a reader is full, its stream ends.
///
/// ```
/// use futures::StreamExt;
/// use nsm::{
///     api::{Connection, pb::connection::{ConnectionEventType, MonitorScopeSelector}},
///     server::monitor::Connections,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connections = Connections::default();
/// let mut events = connections.subscribe(MonitorScopeSelector::default())?;
/// connections.publish("a", *Connection::named("a"));
/// let first = events.next().await.ok_or("ended")??;
/// assert_eq!(first.r#type(), ConnectionEventType::InitialStateTransfer);
/// let update = events.next().await.ok_or("ended")??;
/// assert_eq!((update.r#type(), update.connections.len()), (ConnectionEventType::Update, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    limits: Limits,
    published: HashMap<String, Published>,
    readers: HashMap<u64, Reader>,
    next: u64,
}

/// A connection, and how often it was published.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "proxy"), allow(dead_code))] // only the proxy shows the times
pub(crate) struct Published {
    /// As last published.
    pub(crate) connection: Arc<Connection>,
    /// When it was first published.
    pub(crate) since: SystemTime,
    /// When it was last published.
    pub(crate) at: SystemTime,
    /// Number of times that it was published since.
    pub(crate) again: u64,
}

struct Reader {
    selector: MonitorScopeSelector,
    changes: mpsc::Sender<Change>,
    behind: Arc<AtomicBool>,
}

impl Connections {
    /// No connections and no readers yet.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Inner { limits, ..Inner::default() })))
    }

    /// Sets a connection under the own segment's id and sends `UPDATE` to its readers.
    pub fn publish(&self, id: &str, mut connection: Connection) {
        id.clone_into(&mut connection.id); // events carry the publisher's id as key and in the message
        let connection = Arc::new(connection);
        let mut inner = self.lock();
        inner.note(id, Arc::clone(&connection));
        inner.send(Change { kind: ConnectionEventType::Update, connection });
    }

    /// Removes a connection and sends `DELETE` with its last state. Nothing happens if it is
    /// unknown.
    pub fn remove(&self, id: &str) {
        let mut inner = self.lock();
        if let Some(published) = inner.published.remove(id) {
            inner.send(Change { kind: ConnectionEventType::Delete, connection: published.connection });
        }
    }

    /// Sets the state of a connection to `DOWN` and sends `UPDATE`. Nothing happens if it is
    /// unknown or down already.
    pub fn down(&self, id: &str) {
        let mut inner = self.lock();
        if let Some(published) =
            inner.published.get_mut(id).filter(|published| published.connection.state() != State::Down)
        {
            Arc::make_mut(&mut published.connection).set_state(State::Down);
            let connection = Arc::clone(&published.connection);
            inner.send(Change { kind: ConnectionEventType::Update, connection });
        }
    }

    /// Watches the selected connections.
    ///
    /// # Errors
    /// [`Refused`] names the bound that would be exceeded.
    pub fn subscribe(&self, selector: MonitorScopeSelector) -> Result<Subscription, Refused> {
        let mut inner = self.lock();
        let first = inner.first(&selector)?;
        let (sender, changes) = mpsc::channel(inner.limits.events);
        let id = inner.next;
        let behind = Arc::<AtomicBool>::default();
        inner.next += 1;
        inner.readers.insert(id, Reader { selector, changes: sender, behind: Arc::clone(&behind) });
        let leave = Leave { connections: Arc::downgrade(&self.0), id };
        Ok(Subscription { first: Some(first), changes, behind, _leave: leave })
    }

    /// The connection with this id, as last published.
    pub fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.lock().published.get(id).map(|published| Arc::clone(&published.connection))
    }

    /// The ids of the connections that fulfil a condition, in no order.
    pub fn ids(&self, which: impl Fn(&Connection) -> bool) -> Vec<String> {
        let inner = self.lock();
        inner
            .published
            .iter()
            .filter(|(_, published)| which(&published.connection))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Every connection, as last published, in no order.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().published.values().map(|published| Arc::clone(&published.connection)).collect()
    }

    /// Every connection, with the number of its answers, in no order.
    #[cfg(feature = "proxy")]
    pub(crate) fn published(&self) -> Vec<Published> {
        self.lock().published.values().cloned().collect()
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.lock().published.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of open streams.
    pub fn streams(&self) -> usize {
        self.lock().readers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

impl Inner {
    fn note(&mut self, id: &str, connection: Arc<Connection>) {
        let at = SystemTime::now();
        if let Some(published) = self.published.get_mut(id) {
            published.connection = connection;
            published.at = at;
            published.again += 1;
        } else {
            self.published.insert(id.to_owned(), Published { connection, since: at, at, again: 0 });
        }
    }

    /// The event that starts a stream, if the stream keeps within the limits.
    fn first(&self, selector: &MonitorScopeSelector) -> Result<ConnectionEvent, Refused> {
        let Limits { streams, selector: limit, first, .. } = self.limits;
        if self.readers.len() >= streams {
            return Err(Refused::Streams(streams));
        }
        let counts = [
            ("path segments", selector.path_segments.len()),
            ("network services", selector.network_services.len()),
        ];
        if let Some((what, found)) = counts.into_iter().find(|(_, found)| *found > limit) {
            return Err(Refused::Selector { what, found, limit });
        }
        let published = self.published.values().map(|published| &published.connection);
        let selected = published.filter(|connection| matches(selector, connection));
        let all = event(ConnectionEventType::InitialStateTransfer, selected);
        match all.encoded_len() {
            found if found > first => Err(Refused::First { found, limit: first }),
            _ => Ok(all),
        }
    }

    /// Queues a change for every reader that it concerns. Those with a full queue are ended.
    fn send(&mut self, change: Change) {
        self.readers.retain(|_, reader| {
            if !matches(&reader.selector, &change.connection) {
                return true;
            }
            match reader.changes.try_send(change.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    reader.behind.store(true, Ordering::Release);
                    false
                }
            }
        });
    }
}

/// Ends a subscription when its stream is dropped.
pub(super) struct Leave {
    connections: Weak<Mutex<Inner>>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.upgrade() {
            lock(&connections).readers.remove(&self.id);
        }
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}
