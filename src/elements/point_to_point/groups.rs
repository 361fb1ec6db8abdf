// SPDX-License-Identifier: Apache-2.0

//! Groups of prefixes, as NSM's endpoints have them in their environment.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// Groups of prefixes: a connection gets a pair of addresses from each group. At least one group
/// with at least one prefix.
///
/// The text has groups in brackets, as NSM's endpoints read it from `NSM_CIDR_PREFIX`; a prefix
/// without brackets is a group of its own.
///
/// ```
/// # use nsm::elements::point_to_point::Groups;
/// let groups: Groups = "[172.16.0.0/16, 172.17.0.0/16], fd00::/64".parse()?;
/// assert_eq!(groups.to_string(), "[172.16.0.0/16,172.17.0.0/16],[fd00::/64]");
/// # Ok::<_, nsm::elements::point_to_point::InvalidGroups>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups(Vec<Vec<IpNet>>);

/// A text that does not list groups of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{at}` in `{text}`: {reason} (accepted: 172.16.0.0/16 or [172.16.0.0/16,172.17.0.0/16],[fd00::/64])"
)]
pub struct InvalidGroups {
    /// The whole text, or its beginning.
    pub text: String,
    /// The part that is refused.
    pub at: String,
    /// The reason.
    pub reason: &'static str,
}

/// Longest part of a text that an error repeats, in characters.
const SHOWN: usize = 64;

impl Groups {
    /// The groups, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[IpNet]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Every prefix of every group.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter().flatten()
    }

    /// Whether an address is in one of the prefixes.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.prefixes().any(|prefix| prefix.contains(&address))
    }
}

impl From<IpNet> for Groups {
    fn from(prefix: IpNet) -> Self {
        Self(vec![vec![prefix.trunc()]])
    }
}

impl FromStr for Groups {
    type Err = InvalidGroups;

    fn from_str(text: &str) -> Result<Self, InvalidGroups> {
        let invalid = |at: &str, reason| InvalidGroups {
            text: text.chars().take(SHOWN).collect(),
            at: at.chars().take(SHOWN).collect(),
            reason,
        };
        let mut groups: Vec<Vec<IpNet>> = Vec::new();
        let mut inside = false;
        for item in text.split(',').map(str::trim) {
            let opened = item.strip_prefix('[');
            let rest = opened.unwrap_or(item);
            let closed = rest.strip_suffix(']');
            if opened.is_some() && inside {
                return Err(invalid(item, "a group begins inside a group"));
            }
            if closed.is_some() && opened.is_none() && !inside {
                return Err(invalid(item, "a group ends that has not begun"));
            }
            let prefix = closed.unwrap_or(rest).trim();
            let prefix: IpNet = prefix.parse().map_err(|_| invalid(item, "not a prefix"))?;
            match groups.last_mut().filter(|_| inside) {
                Some(group) => group.push(prefix.trunc()),
                None => groups.push(vec![prefix.trunc()]),
            }
            inside = closed.is_none() && (inside || opened.is_some());
        }
        if inside { Err(invalid(text, "the last group does not end")) } else { Ok(Self(groups)) }
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, group) in self.0.iter().enumerate() {
            let prefixes: Vec<_> = group.iter().map(IpNet::to_string).collect();
            write!(f, "{}[{}]", if n == 0 { "" } else { "," }, prefixes.join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_nsms_endpoints_read_them() {
        let table = [
            ("172.16.1.0/24", Ok("[172.16.1.0/24]")),
            ("172.16.1.7/24", Ok("[172.16.1.0/24]")),
            ("10.0.0.0/8,fd00::/64", Ok("[10.0.0.0/8],[fd00::/64]")),
            ("[10.0.0.0/8,fd00::/64]", Ok("[10.0.0.0/8,fd00::/64]")),
            (" [ 10.0.0.0/8 , 11.0.0.0/8 ] , [fd00::/64] ", Ok("[10.0.0.0/8,11.0.0.0/8],[fd00::/64]")),
            (
                "[1.0.0.0/8],2.0.0.0/8,[3.0.0.0/8,4.0.0.0/8]",
                Ok("[1.0.0.0/8],[2.0.0.0/8],[3.0.0.0/8,4.0.0.0/8]"),
            ),
            ("", Err("not a prefix")),
            ("[]", Err("not a prefix")),
            ("10.0.0.0", Err("not a prefix")),
            ("10.0.0.0/8,", Err("not a prefix")),
            ("[10.0.0.0/8][11.0.0.0/8]", Err("not a prefix")),
            ("[10.0.0.0/8,[11.0.0.0/8]]", Err("a group begins inside a group")),
            ("10.0.0.0/8],11.0.0.0/8", Err("a group ends that has not begun")),
            ("[10.0.0.0/8,11.0.0.0/8", Err("the last group does not end")),
        ];
        for (text, expected) in table {
            let groups = text.parse::<Groups>();
            let groups = groups.as_ref().map(Groups::to_string).map_err(|error| error.reason);
            assert_eq!(groups.as_deref().map_err(|error| *error), expected, "{text}");
        }
    }
}
