// SPDX-License-Identifier: Apache-2.0

//! Marks of the objects that belong to this process, and the settings of the reconciler.

use std::{fmt, time::Duration};

use ipnet::IpNet;

use super::liveness;
use crate::api::{Family, InterfaceName};

/// The marks by which an object in the kernel is ours; all other objects are left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The bridge of which all links of the conduit are ports.
    pub bridge: InterfaceName,
    /// The routing table in which VIP sources are looked up.
    pub table: u32,
    /// The protocol number (`rtm_protocol`, `FRA_PROTOCOL`) on our routes and rules.
    pub protocol: u8,
}

impl Default for Ours {
    /// `bridge0`, table 1 (both as in Meridio's Go proxy), protocol 200.
    fn default() -> Self {
        #[allow(clippy::expect_used)] // a constant
        let bridge = "bridge0".parse().expect("an interface name");
        Self { bridge, table: 1, protocol: 200 }
    }
}

/// Settings of the reconciler of one conduit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The marks of our objects.
    pub ours: Ours,
    /// The families of the conduit.
    pub families: &'static [Family],
    /// Address of the bridge if this process creates it; an existing bridge keeps its own.
    pub mac: Mac,
    /// VIPs of an earlier process. They hold until the first list, together with those in the rules
    /// of that process. If empty, these rules are not touched until then.
    pub restored_vips: Vec<IpNet>,
    /// How long the last VIPs stay when an empty list follows a non-empty one.
    pub empty_vips_grace: Duration,
    /// Minimum time for which former gateways stay, and leak stops of links that never appeared.
    /// When it has passed since the proxy became ready, links of an earlier process that are not
    /// claimed are reported.
    pub adoption: Duration,
    /// How long a claimed link may be missing before it is reported.
    pub appearance: Duration,
    /// Time between full comparisons without events; ± 10 %.
    pub resync: Duration,
    /// How load balancers are probed; `None` if they are not.
    pub liveness: Option<liveness::Settings>,
    /// Whether changed MAC addresses of the bridge, and of the peers connected to it, are announced
    /// to their neighbours.
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
    /// The address in the bytes of a netlink attribute; `None` if it is not an Ethernet address.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A locally administered unicast address that depends on the texts alone. A bridge that is
    /// created again with the same gateway address then keeps its neighbours' caches valid.
    ///
    /// ```
    /// # use nsm::kernel::Mac;
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
