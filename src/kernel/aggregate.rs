// SPDX-License-Identifier: Apache-2.0

//! Represents a set of addresses by the smallest number of prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::api::Family;

/// A prefix as left-aligned bits, so that both families are handled alike. Ordered by address, then
/// by length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    pub(super) bits: u128,
    pub(super) len: u8,
}

impl Prefix {
    /// The first bits of an address.
    pub(super) const fn new(bits: u128, len: u8) -> Self {
        Self { bits: bits & Self::mask(len), len }
    }

    const fn mask(len: u8) -> u128 {
        match len {
            0 => 0,
            len => u128::MAX << (128 - len),
        }
    }

    pub(super) fn of(net: IpNet) -> Self {
        let bits = match net.addr() {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => u128::from(address),
        };
        Self::new(bits, net.prefix_len())
    }

    pub(super) fn to_net(self, family: Family) -> IpNet {
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from((self.bits >> 96) as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(self.bits)),
        };
        IpNet::new_assert(address, self.len.min(family.bits()))
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.len <= other.len && Self::new(other.bits, self.len) == self
    }

    /// The longest prefix that contains both.
    pub(super) fn common(self, other: Self) -> Self {
        let equal = (self.bits ^ other.bits).leading_zeros() as u8;
        Self::new(self.bits, equal.min(self.len).min(other.len))
    }

    /// The prefix one bit shorter, if the other is its second half.
    fn merged(self, other: Self) -> Option<Self> {
        let parent = Self::new(self.bits, self.len.checked_sub(1)?);
        (self.len == other.len && self != other && parent.contains(other)).then_some(parent)
    }
}

/// The smallest list of prefixes of a family that contains exactly these addresses: sorted,
/// disjoint, no two mergeable.
pub(super) fn aggregate(nets: impl IntoIterator<Item = IpNet>, family: Family) -> Vec<Prefix> {
    let mut sorted: Vec<Prefix> =
        nets.into_iter().filter(|net| Family::of_net(net) == family).map(Prefix::of).collect();
    sorted.sort_unstable();
    let mut out: Vec<Prefix> = Vec::with_capacity(sorted.len());
    for mut prefix in sorted {
        if out.last().is_some_and(|last| last.contains(prefix)) {
            continue;
        }
        while let Some(parent) = out.last().and_then(|last| last.merged(prefix)) {
            out.pop();
            prefix = parent;
        }
        out.push(prefix);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn neighbours_become_one_prefix_and_nothing_is_gained_or_lost() {
        let table: [(&[&str], &[&str]); 6] = [
            (&["20.0.0.0/32", "20.0.0.1/32"], &["20.0.0.0/31"]),
            (&["20.0.0.1/32", "20.0.0.2/32"], &["20.0.0.1/32", "20.0.0.2/32"]),
            (&["20.0.0.0/24", "20.0.0.7/32"], &["20.0.0.0/24"]),
            (&["20.0.0.2/32", "20.0.0.3/32", "20.0.0.0/31", "20.0.0.4/30"], &["20.0.0.0/29"]),
            (&["20.0.0.9/24"], &["20.0.0.0/24"]),
            (&["0.0.0.0/1", "128.0.0.0/1"], &["0.0.0.0/0"]),
        ];
        for (input, expected) in table {
            let got: Vec<_> =
                aggregate(nets(input), Family::V4).iter().map(|p| p.to_net(Family::V4).to_string()).collect();
            assert_eq!(got, expected, "{input:?}");
        }
    }

    #[test]
    fn a_family_does_not_see_the_other() {
        let both = nets(&["20.0.0.1/32", "2000::1/128", "2000::/128"]);
        assert_eq!(aggregate(both.clone(), Family::V4).len(), 1);
        let v6 = aggregate(both, Family::V6);
        assert_eq!(v6.iter().map(|p| p.to_net(Family::V6)).collect::<Vec<_>>(), nets(&["2000::/127"]));
    }

    proptest! {
        #[test]
        fn the_same_addresses_are_contained(input in proptest::collection::vec((0u8..32, 24u8..=32), 0..40)) {
            let input: Vec<IpNet> =
                input.into_iter().map(|(last, len)| IpNet::new(Ipv4Addr::new(20, 0, 0, last).into(), len).unwrap()).collect();
            let output = aggregate(input.clone(), Family::V4);
            for last in 0..=255 {
                let address: IpAddr = Ipv4Addr::new(20, 0, 0, last).into();
                let hits = output.iter().filter(|p| p.to_net(Family::V4).contains(&address)).count();
                prop_assert_eq!(hits, usize::from(input.iter().any(|net| net.contains(&address))));
            }
        }
    }
}
