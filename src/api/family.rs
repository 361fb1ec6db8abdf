// SPDX-License-Identifier: Apache-2.0

//! IPv4 and IPv6 as a value, in one fixed order: v4 first.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

/// An IP family. Ordered: IPv4 before IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in order.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The family of a prefix.
    pub fn of_net(net: &IpNet) -> Self {
        Self::of(net.addr())
    }

    /// Number of bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// A value for each enabled family, always iterated v4 first.
///
/// ```
/// # use nsm::api::{Dual, Family};
/// let mtu = Dual { v4: Some(576), v6: Some(1280) };
/// assert_eq!(mtu.iter().collect::<Vec<_>>(), [(Family::V4, &576), (Family::V6, &1280)]);
/// assert_eq!(mtu.get(Family::V6), Some(&1280));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dual<T> {
    /// The value for IPv4.
    pub v4: Option<T>,
    /// The value for IPv6.
    pub v6: Option<T>,
}

impl<T> Dual<T> {
    /// No value for either family.
    pub const NONE: Self = Self { v4: None, v6: None };

    /// The value of a family.
    pub fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// The slot of a family.
    pub fn slot(&mut self, family: Family) -> &mut Option<T> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Values of the enabled families, v4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        Family::BOTH.into_iter().filter_map(|family| Some((family, self.get(family)?)))
    }

    /// The enabled families, v4 first.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<'_, T> {
        self.iter().map(|(family, _)| family)
    }

    /// Applies a function to the value of each enabled family.
    pub fn map<U>(self, mut with: impl FnMut(Family, T) -> U) -> Dual<U> {
        Dual {
            v4: self.v4.map(|value| with(Family::V4, value)),
            v6: self.v6.map(|value| with(Family::V6, value)),
        }
    }

    /// Whether neither family has a value.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

impl<T> FromIterator<(Family, T)> for Dual<T> {
    /// The last value of a family wins.
    fn from_iter<I: IntoIterator<Item = (Family, T)>>(values: I) -> Self {
        let mut dual = Self::NONE;
        for (family, value) in values {
            *dual.slot(family) = Some(value);
        }
        dual
    }
}
