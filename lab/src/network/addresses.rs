// SPDX-License-Identifier: Apache-2.0
//! Brings the addresses of a link to a wanted list.

use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    AddressMessageBuilder,
    packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
};

use super::netlink::{Netlink, NetlinkError, doing, exists, missing};

impl Netlink {
    /// Addresses of global scope on a link, as `address/length`.
    ///
    /// # Errors
    /// The dump failed.
    pub async fn addresses(&self, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let dump = self.handle.address().get().set_link_index_filter(index).execute();
        let all: Result<Vec<_>, _> = dump.try_collect().await;
        Ok(doing(all, || format!("list addresses of link {index}"))?.iter().filter_map(global).collect())
    }

    /// Adds and removes addresses until a link has exactly the wanted ones.
    ///
    /// # Errors
    /// Names the first address that the kernel refuses.
    pub async fn set_addresses(&self, index: u32, wanted: &[IpNet]) -> Result<(), NetlinkError> {
        let present = self.addresses(index).await?;
        for address in present.iter().filter(|address| !wanted.contains(address)) {
            self.delete_address(index, *address).await?;
        }
        for address in wanted.iter().filter(|address| !present.contains(address)) {
            self.add_address(index, *address).await?;
        }
        Ok(())
    }

    /// Adds an address; an IPv6 address is usable at once, without duplicate detection.
    ///
    /// # Errors
    /// The kernel refuses it: the link is gone, or IPv6 is off.
    pub async fn add_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut add = self.handle.address().add(index, address.addr(), address.prefix_len());
        add.message_mut().header.flags = AddressHeaderFlags::Nodad;
        match add.execute().await {
            Err(error) if exists(&error) => Ok(()),
            done => doing(done, || format!("add address {address} to link {index}")),
        }
    }

    async fn delete_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let length = address.prefix_len();
        let message = match address.addr() {
            IpAddr::V4(v4) => {
                AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(index).address(v4, length).build()
            }
            IpAddr::V6(v6) => {
                AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(index).address(v6, length).build()
            }
        };
        match self.handle.address().del(message).execute().await {
            Err(error) if missing(&error) => Ok(()),
            done => doing(done, || format!("remove address {address} from link {index}")),
        }
    }
}

fn global(message: &AddressMessage) -> Option<IpNet> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    // For IPv4, `Address` is the far end of a point-to-point link and `Local` our own.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{NEEDS, netns::Netns};

    #[tokio::test]
    async fn a_link_gets_exactly_the_wanted_addresses_of_both_families() {
        let netns = Netns::new().expect(NEEDS);
        let netlink = Netlink::connect(&netns).unwrap();
        netlink.add_veth("a", "b", &netns).await.unwrap();
        let a = netlink.index("a").await.unwrap();
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let steps = [
            parse(&["172.16.0.6/24", "fd00::6/64"]),
            parse(&["172.16.0.6/24", "20.0.0.1/32", "fd00::6/64", "2001:db8::1/128"]),
            parse(&["172.16.1.6/24", "20.0.0.1/32"]),
            vec![],
        ];
        for wanted in steps {
            netlink.set_addresses(a, &wanted).await.unwrap();
            let mut present = netlink.addresses(a).await.unwrap();
            let mut wanted = wanted;
            present.sort();
            wanted.sort();
            assert_eq!(present, wanted);
        }
    }
}
