// SPDX-License-Identifier: Apache-2.0

//! Name what belongs to this process in the kernel, and how long it waits.

use std::{fmt, time::Duration};

use ipnet::IpNet;

use super::liveness;
use crate::api::{Family, InterfaceName};

/// What marks an object in the kernel as ours: everything else is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The bridge that all links of the conduit are ports of.
    pub bridge: InterfaceName,
    /// The routing table that VIP sources are looked up in.
    pub table: u32,
    /// The protocol number (`rtm_protocol`, `FRA_PROTOCOL`) on our routes and rules.
    pub protocol: u8,
}

impl Default for Ours {
    /// `bridge0`, table 1 (both as Meridio's Go proxy has them), protocol 200.
    fn default() -> Self {
        #[allow(clippy::expect_used)] // a constant
        let bridge = "bridge0".parse().expect("an interface name");
        Self { bridge, table: 1, protocol: 200 }
    }
}

/// Settings of the reconciler of one conduit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is ours.
    pub ours: Ours,
    /// The families of the conduit.
    pub families: &'static [Family],
    /// Address of the bridge if we create it; a bridge that exists keeps its own.
    pub mac: Mac,
    /// VIPs of an earlier process. Together with those that its rules have, they hold until the first list. If empty, its rules are
    /// not touched until then.
    pub restored_vips: Vec<IpNet>,
    /// How long the last VIPs stay when an empty list follows a non-empty one.
    pub empty_vips_grace: Duration,
    /// How long former gateways stay at least, and leak stops of links that never appeared. When it has passed since the proxy is
    /// ready, links of an earlier process that are not claimed are named.
    pub adoption: Duration,
    /// How long a claimed link may not exist before it is named.
    pub appearance: Duration,
    /// Time between full comparisons when no event arrives; ± 10 %.
    pub resync: Duration,
    /// How load balancers are probed; `None` if they are not.
    pub liveness: Option<liveness::Settings>,
    /// Whether changed MAC addresses of the bridge, and of what is connected to it, are announced
    /// to its neighbours.
    pub announce: bool,
    /// Longest pause between attempts while something fails.
    pub max_backoff: Duration,
}

impl Settings {
    /// Defaults for a conduit on a node, with both families, without probes and announcements.
    pub fn of(trench: &str, conduit: &str, node: &str) -> Self {
        Self {
            ours: Ours::default(),
            families: &Family::BOTH,
            mac: Mac::derive(&[trench, conduit, node]),
            restored_vips: Vec::new(),
            empty_vips_grace: Duration::from_secs(60),
            adoption: Duration::from_secs(60),
            appearance: Duration::from_secs(10),
            resync: Duration::from_secs(90),
            liveness: None,
            announce: false,
            max_backoff: Duration::from_secs(10),
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address in the bytes of a netlink attribute; none if it is not an Ethernet address.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A locally administered unicast address that depends on nothing but the texts. A bridge that is made anew with the same
    /// gateway address then keeps its neighbours' caches valid.
    ///
    /// ```
    /// # use meridio_proxy::kernel::Mac;
    /// assert_eq!(Mac::derive(&["red", "blue", "node-a"]), Mac::derive(&["red", "blue", "node-a"]));
    /// assert_ne!(Mac::derive(&["red", "blue", "node-a"]), Mac::derive(&["red", "bluen", "ode-a"]));
    /// ```
    pub fn derive(texts: &[&str]) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for text in texts {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let digest = hash.finish();
        let mut mac = [0; 6];
        mac.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        mac[0] = mac[0] & 0xfc | 0x02;
        Self(mac)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_mac_is_local_and_unicast() {
        for node in 0..1000 {
            let Mac([first, ..]) = Mac::derive(&["trench", "conduit", &node.to_string()]);
            assert_eq!(first & 0x03, 0x02, "node {node}");
        }
    }
}
