// SPDX-License-Identifier: Apache-2.0

//! One change of the kernel.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnet::IpNet;

use super::{Mac, Rule};
use crate::api::{Family, InterfaceName};

/// One change of the kernel. Adding an object that exists and removing one that does not both
/// succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Add a rule.
    AddRule(Rule),
    /// Remove a rule. If there are several equal rules, one of them is removed.
    DeleteRule(Rule),
    /// Create our bridge and set it up.
    CreateBridge(Mac),
    /// Set our bridge up.
    RaiseBridge,
    /// Switch multicast snooping and the spanning tree protocol of our bridge off.
    ConfigureBridge,
    /// Remove our bridge.
    DeleteBridge,
    /// Add an address to our bridge, without duplicate address detection.
    AddAddress(IpNet),
    /// Remove an address from our bridge.
    DeleteAddress(IpNet),
    /// Make these next hops, by way of our bridge, the default route of our table. Replaces a route
    /// of the same metric.
    SetNextHops(Family, BTreeSet<IpAddr>),
    /// Remove the neighbour entry of an address on our bridge, so that its link-layer address is
    /// resolved again.
    ForgetNeighbour(IpAddr),
    /// Add the blackhole behind the default route of our table. Replaces a route of the same
    /// metric.
    SetBlackhole(Family),
    /// Remove the default route with a metric from our table.
    DeleteRoute(Family, u32),
    /// Make the link with this index a port of our bridge.
    Attach(InterfaceName, u32),
    /// Take the link with this index out of its bridge.
    Detach(InterfaceName, u32),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::AddRule(rule) => write!(f, "add rule {rule}"),
            Op::DeleteRule(rule) => write!(f, "remove rule {rule}"),
            Op::CreateBridge(mac) => write!(f, "create the bridge with address {mac}"),
            Op::RaiseBridge => f.write_str("set the bridge up"),
            Op::ConfigureBridge => {
                f.write_str("switch multicast snooping and spanning tree of the bridge off")
            }
            Op::DeleteBridge => f.write_str("remove the bridge"),
            Op::AddAddress(net) => write!(f, "add address {net} to the bridge"),
            Op::DeleteAddress(net) => write!(f, "remove address {net} from the bridge"),
            Op::SetNextHops(family, hops) => {
                write!(f, "set {family} next hops")?;
                hops.iter().try_for_each(|hop| write!(f, " {hop}"))
            }
            Op::ForgetNeighbour(address) => write!(f, "forget the link-layer address of {address}"),
            Op::SetBlackhole(family) => write!(f, "add the {family} blackhole route"),
            Op::DeleteRoute(family, metric) => {
                write!(f, "remove the {family} default route with metric {metric}")
            }
            Op::Attach(name, _) => write!(f, "make {name} a port of the bridge"),
            Op::Detach(name, _) => write!(f, "take {name} out of the bridge"),
        }
    }
}
