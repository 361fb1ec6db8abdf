// SPDX-License-Identifier: Apache-2.0
//! Rules that choose the routing table of a packet.

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    IpVersion,
    packet_route::rule::{RuleAction, RuleAttribute, RuleMessage},
};

use super::{
    netlink::{Netlink, NetlinkError, doing, exists, missing},
    routes::family,
};
use nsm::api::Family;

/// A rule: packets that match look into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// IP family of the packets.
    pub family: Family,
    /// Source of the packets; any if `None`.
    pub from: Option<IpNet>,
    /// Link by which they enter; any if `None`.
    pub input: Option<String>,
    /// Table to look into; 0 drops the packet.
    pub table: u32,
    /// Place among the rules, the lowest first. Two rules of one priority and one match are one.
    pub priority: u32,
}

impl Netlink {
    /// Adds a rule. Adding an existing one succeeds.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn add_rule(&self, rule: &Rule) -> Result<(), NetlinkError> {
        let mut add = self.handle.rule().add();
        *add.message_mut() = message(rule);
        match add.execute().await {
            Err(error) if exists(&error) => Ok(()),
            done => doing(done, || format!("add {rule:?}")),
        }
    }

    /// Removes a rule. Removing a missing one succeeds.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn delete_rule(&self, rule: &Rule) -> Result<(), NetlinkError> {
        match self.handle.rule().del(message(rule)).execute().await {
            Err(error) if missing(&error) => Ok(()),
            done => doing(done, || format!("remove {rule:?}")),
        }
    }

    /// Rules of both families beside those that every namespace has.
    ///
    /// # Errors
    /// The dump failed.
    pub async fn extra_rules(&self) -> Result<Vec<Rule>, NetlinkError> {
        let mut rules = Vec::new();
        for (family, version) in [(Family::V4, IpVersion::V4), (Family::V6, IpVersion::V6)] {
            let all: Result<Vec<_>, _> = self.handle.rule().get(version).execute().try_collect().await;
            let all = doing(all, || format!("list {family} rules"))?;
            rules.extend(all.iter().map(|message| seen(family, message)).filter(|rule| !common(rule)));
        }
        Ok(rules)
    }
}

/// The rules of a new namespace: local at 0, main at 32766, and default at 32767.
fn common(rule: &Rule) -> bool {
    rule.from.is_none() && rule.input.is_none() && [0, 32766, 32767].contains(&rule.priority)
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.family);
    message.header.action = if rule.table == 0 { RuleAction::Blackhole } else { RuleAction::ToTable };
    if rule.table != 0 {
        message.attributes.push(RuleAttribute::Table(rule.table));
    }
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        message.attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(input) = &rule.input {
        message.attributes.push(RuleAttribute::Iifname(input.clone()));
    }
    message
}

fn seen(family: Family, message: &RuleMessage) -> Rule {
    let mut rule = Rule { family, from: None, input: None, table: message.header.table.into(), priority: 0 };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => {
                rule.from = IpNet::new(*address, message.header.src_len).ok();
            }
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            _ => {}
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{NEEDS, netns::Netns, routes::Via};

    #[tokio::test]
    async fn rules_are_added_once_listed_and_removed() {
        let netlink = Netlink::connect(&Netns::new().expect(NEEDS)).unwrap();
        assert_eq!(netlink.extra_rules().await.unwrap(), []);
        let rules =
            [("20.0.0.1/32", Family::V4, None), ("2001:db8::1/128", Family::V6, Some("lo".to_owned()))];
        let rules = rules.map(|(from, family, input)| Rule {
            family,
            from: Some(from.parse().unwrap()),
            input,
            table: 4096,
            priority: 100,
        });
        for rule in rules.iter().chain(&rules) {
            netlink.add_rule(rule).await.unwrap();
        }
        assert_eq!(netlink.extra_rules().await.unwrap(), rules);
        for rule in rules.iter().chain(&rules) {
            netlink.delete_rule(rule).await.unwrap();
        }
        assert_eq!(netlink.extra_rules().await.unwrap(), []);
    }

    #[tokio::test]
    async fn routes_of_one_and_of_two_ways_are_replaced_and_removed() {
        let netns = Netns::new().expect(NEEDS);
        let netlink = Netlink::connect(&netns).unwrap();
        netlink.add_veth("a", "b", &netns).await.unwrap();
        let a = netlink.index("a").await.unwrap();
        netlink.set_up(a).await.unwrap();
        netlink.set_up(netlink.index("b").await.unwrap()).await.unwrap();
        netlink
            .set_addresses(a, &["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()])
            .await
            .unwrap();
        for (to, hops) in [("0.0.0.0/0", ["10.0.0.2", "10.0.0.3"]), ("2001:db8::/32", ["fd00::2", "fd00::3"])]
        {
            let to = to.parse().unwrap();
            let ways = hops.map(|hop| Via { gateway: Some(hop.parse().unwrap()), link: a });
            for ways in [&ways[..], &ways[..1]] {
                netlink.set_route(to, 100, ways).await.unwrap();
                assert_eq!(netlink.count_extra_routes().await.unwrap(), 1, "{to}");
                let hops: Vec<_> = ways.iter().filter_map(|way| way.gateway).collect();
                assert_eq!(netlink.next_hops(100).await.unwrap(), hops);
            }
            assert!(netlink.delete_route(to, 100).await.unwrap());
            assert!(!netlink.delete_route(to, 100).await.unwrap());
            assert_eq!(netlink.count_extra_routes().await.unwrap(), 0, "{to}");
        }
    }
}
