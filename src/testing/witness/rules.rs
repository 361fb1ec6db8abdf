// SPDX-License-Identifier: Apache-2.0

//! Policy rules.

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    RouteNetlinkMessage::{DelRule, GetRule, NewRule},
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::dialogue::{ADD, change, dump};
use crate::api::Family;

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub family: Family,
    pub priority: u32,
    /// Matches the packets that source and input interface do not.
    pub inverted: bool,
    pub from: Option<IpNet>,
    pub iif: Option<String>,
    pub action: Action,
    /// The program that made it; 0 if unknown.
    pub protocol: u8,
}

/// The effect of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Lookup(u32),
    Goto(u32),
    Blackhole,
}

impl Rule {
    /// Looks up packets from a prefix in a table.
    pub fn lookup(priority: u32, from: &str, table: u32) -> Self {
        let from: IpNet = from.parse().unwrap();
        let family = Family::of_net(&from);
        let action = Action::Lookup(table);
        Self { family, priority, inverted: false, from: Some(from), iif: None, action, protocol: 0 }
    }

    /// Restricts the rule to packets that enter by this link.
    pub fn iif(self, link: &str) -> Self {
        Self { iif: Some(link.to_owned()), ..self }
    }

    /// Sets the program that made it.
    pub fn protocol(self, protocol: u8) -> Self {
        Self { protocol, ..self }
    }
}

/// All rules, IPv4 first, in the order in which they are tried.
pub fn rules() -> Vec<Rule> {
    messages().iter().map(seen).collect()
}

fn seen(message: &RuleMessage) -> Rule {
    let header = &message.header;
    let mut priority = 0;
    let mut from = None;
    let mut iif = None;
    let mut protocol = 0;
    let mut table = u32::from(header.table);
    let mut goto = None;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(there) => priority = *there,
            RuleAttribute::Source(there) => from = Some(IpNet::new(*there, header.src_len).unwrap()),
            RuleAttribute::Iifname(there) => iif = Some(there.clone()),
            RuleAttribute::Protocol(there) => protocol = u8::from(*there),
            RuleAttribute::Table(there) => table = *there,
            RuleAttribute::Goto(there) => goto = Some(*there),
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::Other(_) => {}
            other => panic!("{other:?} of {message:?}"),
        }
    }
    let action = match header.action {
        RuleAction::ToTable => Action::Lookup(table),
        RuleAction::Goto => Action::Goto(goto.unwrap()),
        RuleAction::Blackhole => Action::Blackhole,
        other => panic!("{other:?} of {message:?}"),
    };
    let family = match header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        other => panic!("{other:?} of {message:?}"),
    };
    let inverted = header.flags.contains(RuleFlags::Invert);
    Rule { family, priority, inverted, from, iif, action, protocol }
}

pub(super) fn messages() -> Vec<RuleMessage> {
    [AddressFamily::Inet, AddressFamily::Inet6]
        .into_iter()
        .flat_map(|family| {
            let mut request = RuleMessage::default();
            request.header.family = family;
            dump(&GetRule(request))
        })
        .map(|answer| match answer {
            NewRule(rule) => rule,
            other => panic!("not a rule: {other:?}"),
        })
        .collect()
}

/// Adds a rule. The kernel chooses the priority if it is 0.
pub fn add_rule(rule: &Rule) {
    change(&NewRule(message(rule)), ADD);
}

/// Removes a rule.
pub fn delete_rule(rule: &Rule) {
    change(&DelRule(message(rule)), 0);
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    let attributes = &mut message.attributes;
    header.family = match rule.family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    header.flags.set(RuleFlags::Invert, rule.inverted);
    if rule.priority != 0 {
        attributes.push(RuleAttribute::Priority(rule.priority));
    }
    if let Some(from) = rule.from {
        header.src_len = from.prefix_len();
        attributes.push(RuleAttribute::Source(from.addr()));
    }
    attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    if rule.protocol != 0 {
        attributes.push(RuleAttribute::Protocol(rule.protocol.into()));
    }
    header.action = match rule.action {
        Action::Lookup(table) => {
            attributes.push(RuleAttribute::Table(table));
            RuleAction::ToTable
        }
        Action::Goto(target) => {
            attributes.push(RuleAttribute::Goto(target));
            RuleAction::Goto
        }
        Action::Blackhole => RuleAction::Blackhole,
    };
    message
}
