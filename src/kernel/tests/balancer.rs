// SPDX-License-Identifier: Apache-2.0

//! A load balancer as elements declare it: a link that is a port, and its addresses as next hops.

use super::netns::name;
use crate::kernel::{Ends, Kernel, Memory, NextHopGuard, PeerId, PortGuard};
use crate::testing::witness::{add_veth, change_link};

/// The declarations of a load balancer, until they are dropped.
pub(in crate::kernel) struct Balancer {
    pub(super) port: PortGuard,
    pub(super) next_hops: Vec<NextHopGuard>,
}

/// Declares a load balancer whose connection is named after its link.
pub(in crate::kernel) fn declare(kernel: &Kernel, link: &str, addresses: &[&str]) -> Balancer {
    let peer = PeerId::load_balancer(link);
    let port = kernel.port(&peer, name(link), Ends::default());
    Balancer {
        port,
        next_hops: addresses.iter().map(|address| kernel.next_hop(&peer, address.parse().unwrap())).collect(),
    }
}

/// Declares a load balancer whose link is in a kernel in memory.
pub(in crate::kernel) fn in_memory(
    linux: &Memory,
    kernel: &Kernel,
    link: &str,
    addresses: &[&str],
) -> Balancer {
    linux.add_link(link, None);
    declare(kernel, link, addresses)
}

/// Creates the link of a load balancer in this network namespace. Its far end is named after it,
/// with a `p`.
pub(in crate::kernel) fn make_link(link: &str) {
    let far = format!("{link}p");
    add_veth(link, &far);
    for end in [link, far.as_str()] {
        // Link-local addresses then appear at once, and not in the middle of a test.
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/accept_dad"), "0").unwrap();
    }
    change_link(link, |link| link.up());
    change_link(&far, |far| far.up());
}

/// Declares a load balancer whose link is in this network namespace.
pub(in crate::kernel) fn in_netns(kernel: &Kernel, link: &str, addresses: &[&str]) -> Balancer {
    make_link(link);
    declare(kernel, link, addresses)
}
