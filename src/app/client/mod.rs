// SPDX-License-Identifier: Apache-2.0

//! A client: the standard rows with those of its author between them, and connections that are
//! kept.

mod builder;
mod link;
pub(crate) mod recovery;
mod report;
pub(crate) mod retries;
mod state;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use self::{builder::ClientBuilder, link::Link, state::LinkState};
use crate::{
    api::NsUrl,
    chain::Next,
    task::Tasks,
    transport::{Address, Dialer, Identity},
};

/// Connects to network services. Clones share the connections.
///
/// See [`Endpoint`](crate::Endpoint) for an example.
///
/// ```
/// use nsm::{Client, LinkState, chain::Chain, elements::mtu::Mtu, task::Tasks, testing};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = testing::serve(Chain::new().build()?).await; // in a cluster nsmgr
/// let tasks = Tasks::default();
/// let identity = peer.dialer.identity.clone();
/// let client = Client::builder("shop-1", identity, &peer.dialer.address, &tasks)
///     .with(Mtu(1400))
///     .build()?;
/// let link = client.connect(&"kernel://web".parse()?);
/// assert_eq!(link.id(), "shop-1-web");
/// assert!(matches!(*link.state().borrow(), LinkState::Requesting { .. }));
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    name: String,
    chain: Next,
    nsmgr: Dialer,
    tasks: Tasks,
    request_timeout: Duration,
    ids: Mutex<HashSet<String>>,
}

/// The id of a connection, which no other link has for as long as this lives.
struct Id {
    text: String,
    client: Client,
}

impl Client {
    /// Begins a client with the standard rows. The name is that of its pod: it is the beginning of
    /// the ids of connections, by which they are found again after a restart. `tasks` own the
    /// links; stop them after the last one is closed.
    pub fn builder(
        name: impl Into<String>,
        identity: Identity,
        nsmgr: &Address,
        tasks: &Tasks,
    ) -> ClientBuilder {
        ClientBuilder::new(name.into(), identity, nsmgr.clone(), tasks.clone())
    }

    /// Starts to connect to a network service, in a task of its own: continues the connection that
    /// an earlier process of this name has left, or requests a new one, until that succeeds. The
    /// connection is then refreshed and healed.
    ///
    /// The id is `<name>-<service>`, or `<name>-<service>-<interface>`, with a number if several
    /// links have the same.
    pub fn connect(&self, url: &NsUrl) -> Link {
        let interface = url.interface().map(|name| format!("-{name}")).unwrap_or_default();
        let id = self.claim(format!("{}-{}{interface}", self.0.name, url.network_service()));
        Link::start(self, url, id)
    }

    fn claim(&self, base: String) -> Id {
        let mut ids = self.ids();
        let numbered = (2..).map(|n: u32| format!("{base}-{n}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|id| !ids.contains(id));
        let text = free.unwrap_or(base);
        ids.insert(text.clone());
        Id { text, client: self.clone() }
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        self.client.ids().remove(&self.text);
    }
}

#[cfg(test)]
mod tests;
