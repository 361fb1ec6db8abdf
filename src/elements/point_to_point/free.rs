// SPDX-License-Identifier: Apache-2.0

//! The free addresses of some prefixes.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

/// Free addresses, as ranges from first to last address that neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Free(BTreeMap<IpAddr, IpAddr>);

impl Free {
    /// Every address of the prefixes; one in several prefixes counts once.
    pub(super) fn of<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut free = Self::default();
        for prefix in prefixes {
            free.add(prefix.network(), prefix.broadcast());
        }
        free
    }

    /// Returns an address.
    pub(super) fn put(&mut self, address: IpAddr) {
        self.add(address, address);
    }

    /// Takes an address; false if it is not free.
    pub(super) fn take(&mut self, address: IpAddr) -> bool {
        let Some((first, last)) = self.around(address) else { return false };
        self.0.remove(&first);
        if let Some(before) = before(address).filter(|_| first < address) {
            self.0.insert(first, before);
        }
        if let Some(after) = after(address).filter(|_| address < last) {
            self.0.insert(after, last);
        }
        true
    }

    /// Takes the lowest free address of a prefix that is not excluded.
    pub(super) fn take_lowest(&mut self, prefix: &IpNet, excluded: &[IpNet]) -> Option<IpAddr> {
        let mut address = prefix.network();
        loop {
            if self.around(address).is_none() {
                address = *self.0.range(address..).next()?.0;
            }
            if !prefix.contains(&address) {
                return None;
            }
            match excluded.iter().find(|net| net.contains(&address)) {
                Some(net) => address = after(net.broadcast())?,
                None => break,
            }
        }
        self.take(address).then_some(address)
    }

    /// The range that has an address.
    fn around(&self, address: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = self.0.range(..=address).next_back()?;
        (*last >= address).then_some((*first, *last))
    }

    /// Adds a range and unites it with those that it overlaps or touches.
    fn add(&mut self, mut first: IpAddr, mut last: IpAddr) {
        while let Some((&other, &end)) = self.0.range(..=after(last).unwrap_or(last)).next_back()
            && after(end).unwrap_or(end) >= first
        {
            self.0.remove(&other);
            first = first.min(other);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }
}

/// The next address of the same family.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(IpAddr::V4(u32::from(v4).checked_add(1)?.into())),
        IpAddr::V6(v6) => Some(IpAddr::V6(u128::from(v6).checked_add(1)?.into())),
    }
}

/// The previous address of the same family.
fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(IpAddr::V4(u32::from(v4).checked_sub(1)?.into())),
        IpAddr::V6(v6) => Some(IpAddr::V6(u128::from(v6).checked_sub(1)?.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_edges_of_both_families_are_addresses_like_others() {
        let all = [net("255.255.255.254/31"), net("::/127"), net("ffff:ffff:ffff:ffff::/64")];
        let mut free = Free::of(&all);
        for prefix in &all[..2] {
            assert_eq!(free.take_lowest(prefix, &[]), Some(prefix.network()));
            assert_eq!(free.take_lowest(prefix, &[]), Some(prefix.broadcast()));
            assert_eq!(free.take_lowest(prefix, &[]), None);
        }
        assert!(free.take(all[2].broadcast()));
        assert!(!free.take(all[2].broadcast()));
        assert_eq!(free.take_lowest(&all[2], &[net("::/0")]), None, "all are excluded");
        for address in [all[0].broadcast(), all[0].network(), all[2].broadcast()] {
            free.put(address);
        }
        assert_eq!(free.take_lowest(&all[0], &[]), Some(all[0].network()));
    }

    proptest! {
        #[test]
        fn it_equals_a_set_of_addresses(steps in prop::collection::vec((0..3_u8, 0..40_u8, 0..40_u8), 0..200)) {
            let pools = [net("10.0.0.0/28"), net("10.0.0.8/29"), net("10.0.0.32/30")];
            let all: BTreeSet<IpAddr> = pools.iter().flat_map(|pool| {
                let first = u32::from_be_bytes(match pool.network() {
                    IpAddr::V4(v4) => v4.octets(),
                    IpAddr::V6(_) => [0; 4],
                });
                (0..1_u32 << (32 - pool.prefix_len())).map(move |n| IpAddr::V4((first + n).into()))
            }).collect();
            let (mut free, mut model) = (Free::of(&pools), all.clone());
            for (step, host, other) in steps {
                let address = IpAddr::V4([10, 0, 0, host].into());
                match step {
                    0 => prop_assert_eq!(free.take(address), model.remove(&address)),
                    1 if all.contains(&address) => {
                        free.put(address);
                        model.insert(address);
                    }
                    _ => {
                        let pool = &pools[usize::from(host) % pools.len()];
                        let excluded = [IpNet::new(IpAddr::V4([10, 0, 0, other].into()), 30).unwrap().trunc()];
                        let lowest = model.iter().copied()
                            .find(|one| pool.contains(one) && !excluded[0].contains(one));
                        prop_assert_eq!(free.take_lowest(pool, &excluded), lowest);
                        lowest.map(|one| model.remove(&one));
                    }
                }
            }
        }
    }
}
