// SPDX-License-Identifier: Apache-2.0
//! Reads the valid entries of a list of VIPs.
//!
//! 1. A VIP is a unicast address or prefix in CIDR notation; host bits are cleared.
//! 2. A prefix of length 0 is refused: it would be the source of all packets.
//! 3. The first of several VIPs with the same prefix counts.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::api::{parse_prefix, pb::nsp::v1::Vip};

/// Maximum number of complaints about one list. One more entry reports that there are others.
const MAX_COMPLAINTS: usize = 1_024;
/// Maximum length of a name or value in a complaint, in characters.
const MAX_TEXT: usize = 64;

/// The content of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    /// Sorted, each once.
    pub(super) vips: Vec<IpNet>,
    pub(super) complaints: Vec<InvalidVip>,
}

/// An invalid entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InvalidVip {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) problem: &'static str,
}

impl List {
    pub(super) fn read(answer: &[Vip]) -> Self {
        let mut vips = BTreeSet::new();
        let mut complaints = Vec::new();
        let mut complain = |vip: &Vip, problem| {
            let text = |text: &str| text.chars().take(MAX_TEXT).collect();
            match complaints.len() {
                ..MAX_COMPLAINTS => {
                    complaints.push(InvalidVip { name: text(&vip.name), value: text(&vip.address), problem })
                }
                MAX_COMPLAINTS => {
                    complaints.push(InvalidVip { name: String::new(), value: String::new(), problem: OTHERS })
                }
                _ => {}
            }
        };
        for vip in answer {
            match parse(&vip.address) {
                Err(problem) => complain(vip, problem),
                Ok(net) if vips.contains(&net) => complain(vip, DUPLICATE),
                Ok(net) => drop(vips.insert(net)),
            }
        }
        Self { vips: vips.into_iter().collect(), complaints }
    }
}

const NONSENSE: &str = "ignores a VIP that is no prefix (accepted: 20.0.0.1/32, 2001:db8::/64)";
const EVERYTHING: &str = "ignores a VIP that is every address (accepted: prefix lengths from 1)";
const NOT_UNICAST: &str = "ignores a VIP that is no unicast address of a network";
const DUPLICATE: &str = "ignores a VIP whose prefix is in the list already";
const OTHERS: &str = "ignores more VIPs than are named here";

fn parse(text: &str) -> Result<IpNet, &'static str> {
    let net = parse_prefix(text).map_err(|_| NONSENSE)?.trunc();
    let ip = net.addr();
    if net.prefix_len() == 0 {
        Err(EVERYTHING)
    } else if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        Err(NOT_UNICAST)
    } else {
        Ok(net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vips: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let list = List::read(
            &vips
                .iter()
                .map(|&(name, address)| Vip { name: name.into(), address: address.into(), trench: None })
                .collect::<Vec<_>>(),
        );
        (
            list.vips.iter().map(IpNet::to_string).collect(),
            list.complaints.iter().map(|c| format!("{} {}: {}", c.name, c.value, c.problem)).collect(),
        )
    }

    #[test]
    fn a_list_is_read_as_far_as_it_makes_sense() {
        let (vips, complaints) = read(&[
            ("v6", "2000::1/128"),
            ("range", "40.0.0.7/24"),
            ("bare", "20.0.0.9"),
            ("v4", "20.0.0.1/32"),
            ("again", "20.0.0.1/32"),
            ("same-range", "40.0.0.0/24"),
            ("word", "banana"),
            ("long", "20.0.0.1/33"),
            ("nothing", ""),
            ("all", "0.0.0.0/0"),
            ("all6", "::/0"),
            ("group", "ff02::1/128"),
            ("self", "127.0.0.1/32"),
            ("none", "0.0.0.0/8"),
        ]);
        assert_eq!(vips, ["20.0.0.1/32", "20.0.0.9/32", "40.0.0.0/24", "2000::1/128"]);
        let expected = [
            ("again 20.0.0.1/32", DUPLICATE),
            ("same-range 40.0.0.0/24", DUPLICATE),
            ("word banana", NONSENSE),
            ("long 20.0.0.1/33", NONSENSE),
            ("nothing ", NONSENSE),
            ("all 0.0.0.0/0", EVERYTHING),
            ("all6 ::/0", EVERYTHING),
            ("group ff02::1/128", NOT_UNICAST),
            ("self 127.0.0.1/32", NOT_UNICAST),
            ("none 0.0.0.0/8", NOT_UNICAST),
        ];
        let expected: Vec<_> = expected.iter().map(|(what, problem)| format!("{what}: {problem}")).collect();
        assert_eq!(complaints, expected);
    }

    #[test]
    fn the_number_of_complaints_and_their_length_are_bounded() {
        let list = List::read(
            &(0..MAX_COMPLAINTS + 2_000)
                .map(|n| Vip { name: "n".repeat(1_000), address: format!("banana {n}"), trench: None })
                .collect::<Vec<_>>(),
        );
        assert_eq!((list.vips.len(), list.complaints.len()), (0, MAX_COMPLAINTS + 1));
        assert!(list.complaints.iter().all(|c| c.name.len() <= MAX_TEXT));
        assert_eq!(list.complaints.last().map(|c| c.problem), Some(OTHERS));
    }
}
