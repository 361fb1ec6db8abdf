// SPDX-License-Identifier: Apache-2.0
//! Makes one link, and removes it at any moment at which it is given up.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use super::wiring::Wiring;
use crate::{
    error::{Doing, LabError},
    network::{netlink::Netlink, netns::Netns},
};
use nsm::chain::causes;
use nsm::task::Tasks;

/// A link, from before it is made: when dropped, it removes the parts that exist.
pub(super) struct Link {
    pub(super) wiring: Wiring,
    end: End,
    /// Name of the client's end until it is labelled.
    other: String,
    tasks: Tasks,
    removed: AtomicBool,
}

/// The endpoint's end; the other one goes with it.
#[derive(Clone)]
struct End {
    /// The namespace in which it is made.
    netns: Netns,
    /// Its name until it is labelled; no other link has had it.
    name: String,
    /// Its index, once it is made.
    index: OnceLock<u32>,
}

impl Link {
    /// A link that does not exist yet, and is made under this number.
    pub(super) fn new(wiring: Wiring, number: u64, tasks: &Tasks) -> Self {
        let netns = wiring.endpoint.netns.clone();
        let end = End { netns, name: format!("e{number}"), index: OnceLock::new() };
        Self {
            wiring,
            end,
            other: format!("c{number}"),
            tasks: tasks.clone(),
            removed: AtomicBool::new(false),
        }
    }

    /// Makes both ends, each in its namespace, and labels them.
    pub(super) async fn place(&self, endpoint: &Netlink, client: &Netlink) -> Result<(), LabError> {
        let Self { wiring, end, other, .. } = self;
        endpoint.add_veth(&end.name, other, &wiring.client.netns).await?;
        let index = endpoint.index(&end.name).await?;
        let index = *end.index.get_or_init(|| index);
        endpoint.label(index, wiring.endpoint.name.as_str(), &wiring.endpoint.alias, wiring.mtu).await?;
        let index = client.index(other).await?;
        client.label(index, wiring.client.name.as_str(), &wiring.client.alias, wiring.mtu).await?;
        Ok(())
    }

    /// Removes it now.
    pub(super) async fn remove(&self) -> Result<(), LabError> {
        if !self.removed.load(Relaxed) {
            self.end.remove().await?;
            self.removed.store(true, Relaxed);
        }
        Ok(())
    }
}

impl End {
    async fn remove(&self) -> Result<(), LabError> {
        let netlink = Netlink::connect(&self.netns).doing(|| format!("remove link {}", self.name))?;
        if let Some(index) = self.index.get() {
            netlink.delete_link(*index).await?;
        } else if let Some(link) = netlink.link(&self.name).await? {
            netlink.delete_link(link.index).await?;
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if *self.removed.get_mut() {
            return;
        }
        let end = self.end.clone();
        self.tasks.spawn_graceful(|_stopping| async move {
            if let Err(error) = end.remove().await {
                tracing::warn!(error = causes(&error), "link not removed");
            }
        });
    }
}
