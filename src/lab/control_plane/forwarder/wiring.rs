// SPDX-License-Identifier: Apache-2.0
//! Turn a Connection and its descriptors into a link with two ends, and keep the kernel so.
//!
//! Everything comes from the Connection: names and namespaces from the mechanisms of both sides, the alias from the client's id,
//! addresses, MTU and policies from the context. The endpoint's end is made first, as NSM's forwarders do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use ipnet::IpNet;

use super::policy::{Policies, Policy};
use crate::{
    api::{Connection, InterfaceName, parse_prefixes, pb::connectioncontext::IpContext},
    chain::Tasks,
    lab::{
        error::{Doing, LabError},
        network::{
            netlink::{Netlink, NetlinkError},
            netns::Netns,
        },
    },
};

/// One end of a link.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its namespace.
    pub netns: Netns,
    /// Its name.
    pub name: InterfaceName,
    /// Its alias.
    pub alias: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// A link as a Connection wants it.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The endpoint's end.
    pub endpoint: Side,
    /// The client's end.
    pub client: Side,
    /// MTU of both ends; 0 leaves the kernel's.
    pub mtu: u32,
    /// Policies of the client's side.
    pub policies: Vec<Policy>,
}

impl Wiring {
    /// What a Connection wants between two named ends.
    pub fn of(
        connection: &Connection,
        endpoint: (Netns, InterfaceName),
        client: (Netns, InterfaceName),
    ) -> Self {
        let nothing = IpContext::default();
        let ip = connection.ip_context().unwrap_or(&nothing);
        let id = connection.client_id();
        let side = |(netns, name): (Netns, InterfaceName), role: &str, addresses: &[String]| Side {
            netns,
            name,
            alias: format!("{role}-{id}"),
            addresses: parse_prefixes(addresses),
        };
        Self {
            endpoint: side(endpoint, "client", &ip.dst_ip_addrs),
            client: side(client, "server", &ip.src_ip_addrs),
            mtu: connection.context.as_ref().map_or(0, |context| context.mtu),
            policies: ip.policies.iter().filter_map(Policy::of).collect(),
        }
    }

    fn same_ends(&self, other: &Wiring) -> bool {
        let same = |a: &Side, b: &Side| {
            a.name == b.name && a.alias == b.alias && a.netns.inode().ok() == b.netns.inode().ok()
        };
        same(&self.endpoint, &other.endpoint) && same(&self.client, &other.client)
    }
}

/// A link in the kernel. The last clone that is dropped removes it, in a task of the forwarder.
#[derive(Clone)]
pub struct Wired {
    link: Arc<Link>,
    policies: Arc<Policies>,
}

struct Link {
    wiring: Wiring,
    index: u32, // at the endpoint's end; the other one goes with it
    tasks: Tasks,
    removed: AtomicBool,
}

/// Makes links. Clones share the namespace in which they are made.
#[derive(Clone)]
pub struct Wirer {
    netns: Netns,
    tasks: Tasks,
    numbers: Arc<AtomicU64>,
}

impl Wirer {
    /// Make links in a namespace before moving their ends.
    pub fn new(netns: Netns, tasks: Tasks) -> Self {
        Self { netns, tasks, numbers: Arc::default() }
    }

    /// Make the kernel as wanted, keeping the link of `before` if its ends are the same and still there.
    ///
    /// # Errors
    /// The kernel refused. A new link is then gone again.
    pub async fn wire(&self, wiring: Wiring, before: Option<&Wired>) -> Result<Wired, LabError> {
        let connect = |side: &Side| {
            Netlink::connect(&side.netns).doing(|| format!("enter the namespace of {}", side.name))
        };
        let (endpoint, client) = (connect(&wiring.endpoint)?, connect(&wiring.client)?);
        let kept = match before.filter(|before| before.link.wiring.same_ends(&wiring)) {
            Some(before)
                if there(&endpoint, &wiring.endpoint).await? && there(&client, &wiring.client).await? =>
            {
                Some(Arc::clone(&before.link))
            }
            _ => None,
        };
        let link = match kept {
            Some(link) => link,
            None => self.make(&wiring, &endpoint, &client).await?,
        };
        for (netlink, side) in [(&endpoint, &wiring.endpoint), (&client, &wiring.client)] {
            let index = netlink.index(side.name.as_str()).await?;
            netlink.set_addresses(index, &side.addresses).await?;
            netlink.set_up(index).await?;
        }
        let policies =
            Policies::install(&wiring, &client, before.map(|before| &*before.policies), &self.tasks);
        Ok(Wired { link, policies: Arc::new(policies.await?) })
    }

    async fn make(
        &self,
        wiring: &Wiring,
        endpoint: &Netlink,
        client: &Netlink,
    ) -> Result<Arc<Link>, LabError> {
        for (netlink, side) in [(endpoint, &wiring.endpoint), (client, &wiring.client)] {
            remove_alias(netlink, &side.alias).await?;
        }
        let own = Netlink::connect(&self.netns).doing(|| "enter the forwarder's namespace".into())?;
        let number = self.numbers.fetch_add(1, Relaxed);
        let (first, second) = (format!("e{number}"), format!("c{number}"));
        own.add_veth(&first, &second, &self.netns).await?;
        let place = async {
            own.move_to(own.index(&first).await?, &wiring.endpoint.netns).await?;
            let index = endpoint.index(&first).await?;
            endpoint.label(index, wiring.endpoint.name.as_str(), &wiring.endpoint.alias, wiring.mtu).await?;
            own.move_to(own.index(&second).await?, &wiring.client.netns).await?;
            let other = client.index(&second).await?;
            client.label(other, wiring.client.name.as_str(), &wiring.client.alias, wiring.mtu).await?;
            Ok::<_, NetlinkError>(index)
        };
        match place.await {
            Ok(index) => {
                let (wiring, tasks) = (wiring.clone(), self.tasks.clone());
                Ok(Arc::new(Link { wiring, index, tasks, removed: AtomicBool::new(false) }))
            }
            Err(error) => {
                // Where each end got to is not known; one of them is enough.
                for (netlink, name) in
                    [(&own, &first), (&own, &second), (endpoint, &first), (client, &second)]
                {
                    if let Ok(Some(link)) = netlink.link(name).await {
                        netlink.delete_link(link.index).await?;
                    }
                }
                remove_alias(endpoint, &wiring.endpoint.alias).await?;
                Err(error.into())
            }
        }
    }
}

async fn there(netlink: &Netlink, side: &Side) -> Result<bool, NetlinkError> {
    Ok(netlink.link(side.name.as_str()).await?.is_some_and(|link| link.alias == side.alias))
}

async fn remove_alias(netlink: &Netlink, alias: &str) -> Result<(), NetlinkError> {
    for link in netlink.links().await?.iter().filter(|link| link.alias == alias) {
        netlink.delete_link(link.index).await?;
    }
    Ok(())
}

impl Wired {
    /// Remove the link and the policies now.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn remove(&self) -> Result<(), LabError> {
        self.policies.remove().await?;
        self.link.remove().await
    }
}

impl Link {
    async fn remove(&self) -> Result<(), LabError> {
        if self.removed.swap(true, Relaxed) {
            return Ok(());
        }
        remove(&self.wiring.endpoint.netns, self.index).await
    }
}

async fn remove(netns: &Netns, index: u32) -> Result<(), LabError> {
    let netlink = Netlink::connect(netns).doing(|| format!("remove link {index}"))?;
    Ok(netlink.delete_link(index).await?)
}

impl Drop for Link {
    fn drop(&mut self) {
        if *self.removed.get_mut() {
            return;
        }
        let (netns, index) = (self.wiring.endpoint.netns.clone(), self.index);
        self.tasks.spawn(async move {
            if let Err(error) = remove(&netns, index).await {
                tracing::warn!(error = crate::lab::error::explain(&error), "link not removed");
            }
        });
    }
}
