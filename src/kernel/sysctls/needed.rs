// SPDX-License-Identifier: Apache-2.0

//! The list of needed sysctls.

use crate::api::Family;

/// Placeholder for the bridge in a key.
pub(super) const BRIDGE: &str = "BRIDGE";

/// A sysctl that is needed.
pub(super) struct Needed {
    pub(super) family: Family,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) breaks: &'static str,
    /// It may be absent, because the bridge may not exist yet.
    pub(super) may_be_absent: bool,
    /// The value with which no packet is forwarded.
    pub(super) stops_with: Option<&'static str>,
}

/// A sysctl of all interfaces comes before that of the bridge.
pub(super) const NEEDED: [Needed; 11] = {
    use Family::{V4, V6};
    [
        needed(V4, "net.ipv4.conf.all.forwarding", "1", NOT_FORWARDED_V4).stops_with("0"),
        needed(V4, "net.ipv4.conf.BRIDGE.forwarding", "1", NOT_FORWARDED_V4).stops_with("0").may_be_absent(),
        needed(V4, "net.ipv4.fib_multipath_hash_policy", "1", ONE_LOAD_BALANCER),
        needed(V4, "net.ipv4.conf.all.rp_filter", "0", NO_WAY_BACK).stops_with("1"),
        needed(V4, "net.ipv4.conf.BRIDGE.rp_filter", "0", NO_WAY_BACK).stops_with("1").may_be_absent(),
        needed(V4, "net.ipv4.conf.default.rp_filter", "0", NO_WAY_BACK_LATER),
        needed(V6, "net.ipv6.conf.all.disable_ipv6", "0", NO_IPV6).stops_with("1"),
        needed(V6, "net.ipv6.conf.BRIDGE.disable_ipv6", "0", NO_IPV6).stops_with("1").may_be_absent(),
        needed(V6, "net.ipv6.conf.all.forwarding", "1", NOT_FORWARDED_V6).stops_with("0"),
        needed(V6, "net.ipv6.fib_multipath_hash_policy", "1", ONE_LOAD_BALANCER),
        needed(V6, "net.ipv6.conf.all.accept_dad", "0", LATE_ADDRESSES),
    ]
};

const NOT_FORWARDED_V4: &str = "no IPv4 packet of a target is forwarded to a load balancer";
const NOT_FORWARDED_V6: &str = "no IPv6 packet of a target is forwarded to a load balancer";
const ONE_LOAD_BALANCER: &str = "all flows between two addresses take one load balancer";
const NO_WAY_BACK: &str = "packets from VIPs are dropped, as no route leads back to them";
const NO_WAY_BACK_LATER: &str = "packets from VIPs are dropped on links made later";
const LATE_ADDRESSES: &str = "IPv6 addresses of new links are unusable for a second or more";
const NO_IPV6: &str = "the bridge takes no IPv6 address, and IPv6 has no next hop";

const fn needed(family: Family, key: &'static str, value: &'static str, breaks: &'static str) -> Needed {
    Needed { family, key, value, breaks, may_be_absent: false, stops_with: None }
}

impl Needed {
    const fn may_be_absent(self) -> Self {
        Self { may_be_absent: true, ..self }
    }

    const fn stops_with(self, value: &'static str) -> Self {
        Self { stops_with: Some(value), ..self }
    }
}
