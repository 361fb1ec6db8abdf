// SPDX-License-Identifier: Apache-2.0
//! Identifies the links of the pod that no connection may name: loopback and the devices of the
//! primary network.
//!
//! Peers choose the names of some links. A peer that names `eth0` must be refused: the link of the
//! connection would be taken for that of the pod.

use std::fs;

use crate::api::InterfaceName;

/// Maximum size of a routing table, in bytes. A pod has a handful of routes.
const MAX_TABLE: usize = 1 << 20;

/// Whether a link of this name belongs to no connection. Reads two small files of `/proc` and does
/// not wait.
pub(crate) fn is_foreign(name: &InterfaceName) -> bool {
    let name = name.as_str();
    if name == "lo" {
        return true;
    }
    let table =
        |path| fs::read_to_string(path).ok().filter(|text| text.len() <= MAX_TABLE).unwrap_or_default();
    ipv4_defaults(&table("/proc/thread-self/net/route")).any(|device| device == name)
        || ipv6_defaults(&table("/proc/thread-self/net/ipv6_route")).any(|device| device == name)
}

/// Devices of default routes: destination and mask are zero.
fn ipv4_defaults(table: &str) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(1)? == &"00000000" && fields.get(7)? == &"00000000").then(|| fields[0])
    })
}

/// Devices of default routes: destination of length zero. Loopback holds the kernel's own
/// unreachable default.
fn ipv6_defaults(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(1)? == &"00").then_some(*fields.get(9)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
load-balan-x\t000110AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";
    const ROUTE6: &str = "\
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     net1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

    #[test]
    fn ways_out_of_the_pod_are_found_in_both_families() {
        assert_eq!(ipv4_defaults(ROUTE).collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(ipv6_defaults(ROUTE6).collect::<Vec<_>>(), ["net1", "lo"]);
        for garbage in ["", "Iface\n", "a\nb c\n", "\n\n\n"] {
            assert_eq!(ipv4_defaults(garbage).count() + ipv6_defaults(garbage).count(), 0);
        }
    }

    #[test]
    fn loopback_is_foreign_a_missing_link_is_not() {
        let name = |text: &str| text.parse::<InterfaceName>().unwrap();
        assert!(is_foreign(&name("lo")));
        assert!(!is_foreign(&name("load-balan-nSjS")));
    }
}
