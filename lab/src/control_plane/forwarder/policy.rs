// SPDX-License-Identifier: Apache-2.0
//! Routes packets from a VIP through the client's end of its link: policies as rules, each with a
//! separate table.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use ipnet::IpNet;

use super::wiring::Wiring;
use crate::{
    error::{Doing, LabError},
    network::{
        netlink::{Netlink, NetlinkError},
        netns::Netns,
        routes::Via,
        rules::Rule,
    },
};
use nsm::chain::causes;
use nsm::{
    api::{Family, parse_prefix, pb::connectioncontext::PolicyRoute},
    task::Tasks,
};

/// First table of a policy.
const TABLES: u32 = 1000;
/// Priority of the rules: before the table `main`.
const PRIORITY: u32 = 1000;

/// A policy of a Connection, as far as Meridio uses it: a source, and the routes of its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Source of the packets.
    pub from: IpNet,
    /// Prefixes and their next hops.
    pub routes: Vec<(IpNet, IpAddr)>,
}

impl Policy {
    /// Parses a policy; `None` if its source is not a prefix, or it also depends on ports or
    /// protocols.
    pub fn of(policy: &PolicyRoute) -> Option<Self> {
        if ![&policy.proto, &policy.dst_port, &policy.src_port].iter().all(|text| text.is_empty()) {
            return None;
        }
        let from = parse_prefix(&policy.from).ok()?;
        let routes = policy.routes.iter().filter_map(|route| {
            Some((parse_prefix(&route.prefix).ok()?.trunc(), route.next_hop.parse().ok()?))
        });
        Some(Self { from, routes: routes.collect() })
    }

    fn rule(&self, table: u32) -> Rule {
        Rule {
            family: Family::of_net(&self.from),
            from: Some(self.from),
            input: None,
            table,
            priority: PRIORITY,
        }
    }
}

/// The rules of policies that a killed forwarder left.
async fn standing(client: &Netlink) -> Result<Vec<Rule>, NetlinkError> {
    let rules = client.extra_rules().await?;
    Ok(rules.into_iter().filter(|rule| rule.priority == PRIORITY).collect())
}

/// The policies of a link in the kernel.
pub(super) struct Policies(Vec<Arc<Installed>>);

struct Installed {
    policy: Policy,
    table: u32,
    netns: Netns,
    tasks: Tasks,
    removed: AtomicBool,
}

impl Policies {
    /// Installs new policies and keeps the previous ones; those no longer wanted are removed when
    /// `before` is dropped.
    pub(super) async fn install(
        wiring: &Wiring,
        client: &Netlink,
        before: Option<&Policies>,
        tasks: &Tasks,
    ) -> Result<Self, LabError> {
        let link = client.index(wiring.client.name.as_str()).await?;
        let standing = if before.is_some() { Vec::new() } else { standing(client).await? };
        let before: &[_] = before.map_or(&[], |before| &before.0);
        let mut all: Vec<Arc<Installed>> = Vec::new();
        for policy in &wiring.policies {
            let known = before.iter().find(|installed| installed.policy == *policy);
            let installed = match known {
                Some(known) => Arc::clone(known),
                None => {
                    let left = standing.iter().find(|rule| rule.from == Some(policy.from));
                    let used = all.iter().chain(before).map(|installed| installed.table);
                    let used = used.chain(standing.iter().map(|rule| rule.table)).max();
                    let next = used.map_or(TABLES, |table| table + 1);
                    let table = left.map_or(next, |rule| rule.table);
                    let policy = policy.clone();
                    let netns = wiring.client.netns.clone();
                    let tasks = tasks.clone();
                    Arc::new(Installed { policy, table, netns, tasks, removed: AtomicBool::new(false) })
                }
            };
            // A link that went down, or is a new one, has lost the routes.
            installed.apply(client, link).await?;
            all.push(installed);
        }
        Ok(Self(all))
    }

    pub(super) async fn remove(&self) -> Result<(), LabError> {
        for installed in self.0.iter().filter(|installed| !installed.removed.load(Relaxed)) {
            let netlink =
                Netlink::connect(&installed.netns).doing(|| format!("remove {:?}", installed.policy))?;
            withdraw(&netlink, &installed.policy, installed.table).await?;
            installed.removed.store(true, Relaxed);
        }
        Ok(())
    }
}

impl Installed {
    async fn apply(&self, netlink: &Netlink, link: u32) -> Result<(), NetlinkError> {
        for (to, gateway) in &self.policy.routes {
            netlink.set_route(*to, self.table, &[Via { gateway: Some(*gateway), link }]).await?;
        }
        netlink.add_rule(&self.policy.rule(self.table)).await
    }
}

async fn withdraw(netlink: &Netlink, policy: &Policy, table: u32) -> Result<(), NetlinkError> {
    netlink.delete_rule(&policy.rule(table)).await?;
    for (to, _) in &policy.routes {
        netlink.delete_route(*to, table).await?;
    }
    Ok(())
}

impl Drop for Installed {
    fn drop(&mut self) {
        if *self.removed.get_mut() {
            return;
        }
        let netns = self.netns.clone();
        let policy = self.policy.clone();
        let table = self.table;
        self.tasks.spawn_graceful(|_stopping| async move {
            let done = async {
                let netlink = Netlink::connect(&netns).doing(|| format!("remove {policy:?}"))?;
                Ok::<_, LabError>(withdraw(&netlink, &policy, table).await?)
            };
            if let Err(error) = done.await {
                tracing::warn!(error = causes(&error), "policy not removed");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsm::api::pb::connectioncontext::Route;

    #[test]
    fn a_policy_is_a_source_and_its_routes() {
        let route = |prefix: &str, hop: &str| Route { prefix: prefix.into(), next_hop: hop.into() };
        let policy = PolicyRoute {
            from: "20.0.0.1/32".into(),
            routes: vec![route("0.0.0.0/0", "172.16.1.1"), route("0.0.0.0/0", "")],
            ..Default::default()
        };
        let read = Policy::of(&policy).unwrap();
        assert_eq!(read.from, "20.0.0.1/32".parse().unwrap());
        assert_eq!(read.routes, [("0.0.0.0/0".parse().unwrap(), "172.16.1.1".parse().unwrap())]);
        assert_eq!(Policy::of(&PolicyRoute { from: "".into(), ..policy.clone() }), None);
        assert_eq!(Policy::of(&PolicyRoute { dst_port: "80".into(), ..policy }), None);
    }
}
