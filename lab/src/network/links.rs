// SPDX-License-Identifier: Apache-2.0
//! Creates, names, counts and deletes links.

use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage},
};

use super::{
    netlink::{Netlink, NetlinkError, doing, missing},
    netns::Netns,
};

/// A link as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Alias, empty if none.
    pub alias: String,
    /// Index of the bridge of which it is a port.
    pub controller: Option<u32>,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self { index: message.header.index, ..Self::default() };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::Stats64(stats) => {
                    (link.received, link.sent) = (stats.rx_packets, stats.tx_packets)
                }
                _ => {}
            }
        }
        link
    }
}

fn at(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}

impl Netlink {
    /// All links.
    ///
    /// # Errors
    /// The dump failed.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let dump = self.handle.link().get().execute().map_ok(Link::from).try_collect().await;
        doing(dump, || "list links".into())
    }

    /// The link with a name, if there is one.
    ///
    /// # Errors
    /// The kernel refused the request.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let found = self.handle.link().get().match_name(name.to_owned()).execute().try_next().await;
        match found {
            Err(error) if missing(&error) => Ok(None),
            found => doing(found.map(|link| link.map(Link::from)), || format!("look for link {name}")),
        }
    }

    /// Index of the link with a name.
    ///
    /// # Errors
    /// There is no such link.
    pub async fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        Ok(self
            .link(name)
            .await?
            .ok_or_else(|| NetlinkError {
                doing: format!("find link {name}"),
                source: rustix::io::Errno::NODEV.into(),
            })?
            .index)
    }

    /// Creates a pair of links: `name` here, `peer` in another namespace.
    ///
    /// Each end is created in its place: Linux waits some 20 ms for each link that is moved.
    ///
    /// # Errors
    /// A name is taken.
    pub async fn add_veth(&self, name: &str, peer: &str, there: &Netns) -> Result<(), NetlinkError> {
        let descriptor = there.descriptor();
        let far = LinkMessageBuilder::<LinkUnspec>::new().name(peer).setns_by_fd(descriptor.as_raw_fd());
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())));
        let made = self.handle.link().add(pair.build()).execute().await;
        doing(made, || format!("make links {name} and {peer}"))
    }

    /// Sets name, alias and, unless 0, the MTU of a link that is down.
    ///
    /// # Errors
    /// The name is taken, or the MTU is out of range.
    pub async fn label(&self, index: u32, name: &str, alias: &str, mtu: u32) -> Result<(), NetlinkError> {
        let message = at(index).name(name).alias(alias);
        let message = if mtu == 0 { message } else { message.mtu(mtu) };
        let done = self.handle.link().change(message.build()).execute().await;
        doing(done, || format!("name link {index} {name} (alias {alias}, MTU {mtu})"))
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let done = self.handle.link().change(at(index).up().build()).execute().await;
        doing(done, || format!("set link {index} up"))
    }

    /// Takes a port off its bridge.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn release(&self, index: u32) -> Result<(), NetlinkError> {
        let done = self.handle.link().change(at(index).nocontroller().build()).execute().await;
        doing(done, || format!("take link {index} off its bridge"))
    }

    /// Sets the loopback link up.
    ///
    /// # Errors
    /// There is none: the namespace is not one of ours.
    pub async fn set_loopback_up(&self) -> Result<(), NetlinkError> {
        self.set_up(self.index("lo").await?).await
    }

    /// Deletes a link; its peer goes with it. Deleting a missing link succeeds.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if missing(&error) => Ok(()),
            done => doing(done, || format!("delete link {index}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NEEDS;

    #[tokio::test]
    async fn a_pair_of_links_joins_two_namespaces_and_goes_as_one() {
        let here = Netns::new().expect(NEEDS);
        let there = Netns::new().expect(NEEDS);
        let this = Netlink::connect(&here).unwrap();
        let that = Netlink::connect(&there).unwrap();
        this.add_veth("a", "b", &there).await.unwrap();
        let a = this.index("a").await.unwrap();
        let b = that.index("b").await.unwrap();
        that.label(b, "renamed", "client-7", 1400).await.unwrap();
        let renamed = that.link("renamed").await.unwrap().unwrap();
        assert_eq!((renamed.index, renamed.alias.as_str()), (b, "client-7"));
        assert_eq!(this.link("b").await.unwrap(), None);

        this.delete_link(a).await.unwrap();
        this.delete_link(a).await.unwrap();
        let left = that.links().await.unwrap().into_iter().filter(|link| link.name != "lo").count();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn an_error_names_the_operation_that_failed() {
        let netlink = Netlink::connect(&Netns::new().expect(NEEDS)).unwrap();
        let error = netlink.index("nothing").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot find link nothing");
        assert_eq!(error.source.raw_os_error(), Some(19));
        let error = netlink.set_up(77).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot set link 77 up");
    }
}
