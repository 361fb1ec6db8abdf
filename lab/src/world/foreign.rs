// SPDX-License-Identifier: Apache-2.0
//! Changes the proxy's part of the kernel, as another program might.

use super::{
    World,
    datapath::{BRIDGE, NEXT_HOPS},
};
use crate::{
    error::{Doing, LabError},
    topology::everything,
};

/// A change by another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Delete the rule of every VIP.
    DeleteRules,
    /// Take every port off the bridge.
    ReleasePorts,
    /// Remove the addresses of the bridge.
    RemoveAddresses,
    /// Delete the routes to the next hops.
    FlushRoutes,
}

impl World {
    /// Changes it for the first node's proxy.
    ///
    /// # Errors
    /// The kernel refused, or there is nothing to change.
    pub async fn meddle(&mut self, hand: Hand) -> Result<(), LabError> {
        let pod = self.fabric.proxies.first().ok_or("there is none").doing(|| "find the proxy".into())?;
        let netlink = &pod.netlink;
        match hand {
            Hand::DeleteRules => {
                let rules = netlink.extra_rules().await?;
                let rules: Vec<_> =
                    rules.iter().filter(|rule| rule.from.is_some() && rule.table == NEXT_HOPS).collect();
                something(&rules, "rule of a VIP")?;
                for rule in rules {
                    netlink.delete_rule(rule).await?;
                }
            }
            Hand::ReleasePorts => {
                let bridge = Some(netlink.index(BRIDGE).await?);
                let links = netlink.links().await?;
                let ports: Vec<_> = links.iter().filter(|link| link.controller == bridge).collect();
                something(&ports, "port")?;
                for port in ports {
                    netlink.release(port.index).await?;
                }
            }
            Hand::RemoveAddresses => netlink.set_addresses(netlink.index(BRIDGE).await?, &[]).await?,
            Hand::FlushRoutes => {
                for family in &self.topology.families {
                    netlink.delete_route(everything(*family), NEXT_HOPS).await?;
                }
            }
        }
        Ok(())
    }
}

fn something<T>(found: &[T], what: &str) -> Result<(), LabError> {
    let found = if found.is_empty() { Err("there is none") } else { Ok(()) };
    found.doing(|| format!("find a {what}"))
}
