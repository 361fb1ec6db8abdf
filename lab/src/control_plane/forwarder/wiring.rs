// SPDX-License-Identifier: Apache-2.0
//! Turns a Connection and its descriptors into a link with two ends, and keeps the kernel in that
//! state.
//!
//! Everything comes from the Connection: names and namespaces from the mechanisms of both sides,
//! the alias from the client's id, addresses, MTU and policies from the context. The endpoint's end
//! is made first, as NSM's forwarders do.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use ipnet::IpNet;

use super::{
    link::Link,
    policy::{Policies, Policy},
};
use crate::{
    error::{Doing, LabError},
    network::{
        netlink::{Netlink, NetlinkError},
        netns::Netns,
        routes::{MAIN, Via},
    },
};
use nsm::{
    api::{
        Connection, InterfaceName, parse_prefix, parse_prefixes,
        pb::connectioncontext::{IpContext, Route},
    },
    task::Tasks,
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
    /// Destinations that are on the link.
    pub routes: Vec<IpNet>,
}

/// A link as described by a Connection.
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
    /// The link of a Connection between two named ends.
    pub fn of(
        connection: &Connection,
        endpoint: (Netns, InterfaceName),
        client: (Netns, InterfaceName),
    ) -> Self {
        let nothing = IpContext::default();
        let ip = connection.ip_context().unwrap_or(&nothing);
        let id = connection.client_id();
        let side =
            |(netns, name): (Netns, InterfaceName), role: &str, addresses: &[String], to: &[Route]| Side {
                netns,
                name,
                alias: format!("{role}-{id}"),
                addresses: parse_prefixes(addresses),
                routes: to.iter().filter_map(on_link).collect(),
            };
        Self {
            endpoint: side(endpoint, "client", &ip.dst_ip_addrs, &ip.dst_routes),
            client: side(client, "server", &ip.src_ip_addrs, &ip.src_routes),
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

/// A link in the kernel. The last clone that is dropped removes it, in a task of the forwarder, for
/// which its stop waits.
#[derive(Clone)]
pub struct Wired {
    link: Arc<Link>,
    policies: Arc<Policies>,
}

/// Number of the next link of any forwarder: the links of two may end in one namespace.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Makes links.
#[derive(Clone)]
pub struct Wirer {
    tasks: Tasks,
}

impl Wirer {
    /// Makes links that `tasks` remove when they are dropped.
    pub fn new(tasks: Tasks) -> Self {
        Self { tasks }
    }

    /// Brings the kernel to the wanted state, keeping the link of `before` if its ends are the same
    /// and still exist.
    ///
    /// # Errors
    /// The kernel refused. A new link is then removed again.
    pub async fn wire(&self, wiring: Wiring, before: Option<&Wired>) -> Result<Wired, LabError> {
        let connect = |side: &Side| {
            Netlink::connect(&side.netns).doing(|| format!("enter the namespace of {}", side.name))
        };
        let endpoint = connect(&wiring.endpoint)?;
        let client = connect(&wiring.client)?;
        let kept = match before.filter(|before| before.link.wiring.same_ends(&wiring)) {
            Some(before)
                if exists(&endpoint, &wiring.endpoint).await? && exists(&client, &wiring.client).await? =>
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
            for to in &side.routes {
                netlink.set_route(*to, MAIN, &[Via { gateway: None, link: index }]).await?;
            }
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
        let number = NUMBER.fetch_add(1, Relaxed);
        let link = Link::new(wiring.clone(), number, &self.tasks);
        match link.place(endpoint, client).await {
            Ok(()) => Ok(Arc::new(link)),
            Err(error) => {
                link.remove().await?;
                Err(error)
            }
        }
    }
}

/// The destination of a route without a next hop: it is on the link.
fn on_link(route: &Route) -> Option<IpNet> {
    route.next_hop.is_empty().then(|| parse_prefix(&route.prefix).ok().map(|net| net.trunc()))?
}

async fn exists(netlink: &Netlink, side: &Side) -> Result<bool, NetlinkError> {
    Ok(netlink.link(side.name.as_str()).await?.is_some_and(|link| link.alias == side.alias))
}

async fn remove_alias(netlink: &Netlink, alias: &str) -> Result<(), NetlinkError> {
    for link in netlink.links().await?.iter().filter(|link| link.alias == alias) {
        netlink.delete_link(link.index).await?;
    }
    Ok(())
}

impl Wired {
    /// Removes the link and the policies now.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn remove(&self) -> Result<(), LabError> {
        self.policies.remove().await?;
        self.link.remove().await
    }
}
