// SPDX-License-Identifier: Apache-2.0

//! Collects the objects that events report as changed, so that only these are read again.
//!
//! Links are named by index and read again, as are addresses and routes, of which there are few.
//! Rules may be thousands and cannot be read one by one, but their events carry the whole rule. The
//! collection is bounded; beyond the bound, everything is read.

use std::{collections::BTreeSet, mem};

use rtnetlink::{
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{AddressFamily, RouteNetlinkMessage, route::RouteMessage, rule::RuleMessage},
};

use super::super::{message::MAIN, parse};
use crate::kernel::Ours;

/// Maximum number of links read one by one.
const MAX_LINKS: usize = 64;
/// Maximum number of rule events applied one by one.
const MAX_RULES: usize = 256;

/// The objects that may have changed since the last read.
#[derive(Debug, Default)]
pub(in crate::kernel::netlink) struct Changes {
    /// Events were lost, or there were more than the bounds allow.
    pub(in crate::kernel::netlink) everything: bool,
    /// Indices of links.
    pub(in crate::kernel::netlink) links: BTreeSet<u32>,
    /// Addresses of our bridge, or of any link while the bridge's index is unknown.
    pub(in crate::kernel::netlink) addresses: bool,
    /// Routes of our table.
    pub(in crate::kernel::netlink) routes: bool,
    /// Default routes of table main.
    pub(in crate::kernel::netlink) primary: bool,
    /// Rules, in the order of the events.
    pub(in crate::kernel::netlink) rules: RuleChanges,
}

/// Changes of rules.
#[derive(Debug)]
pub(in crate::kernel::netlink) enum RuleChanges {
    /// All events of rules, in order.
    Events(Vec<RuleChange>),
    /// More events than [`MAX_RULES`].
    Many,
}

/// An event of a rule.
#[derive(Debug)]
pub(in crate::kernel::netlink) enum RuleChange {
    Added(RuleMessage),
    Deleted(RuleMessage),
}

impl Default for RuleChanges {
    fn default() -> Self {
        Self::Events(Vec::new())
    }
}

impl Changes {
    /// Everything may have changed.
    pub(super) fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Takes the events of a datagram and returns their effect on a pass.
    pub(super) fn take(&mut self, datagram: &[u8], ours: &Ours, bridge: Option<u32>) -> Effect {
        let mut effect = Effect::default();
        let mut rest = datagram;
        while !rest.is_empty() {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
                return self.unknown();
            };
            let length = (message.header.length as usize).next_multiple_of(4);
            let NetlinkPayload::InnerMessage(event) = message.payload else { return self.unknown() };
            effect.add(self.event(event, ours, bridge));
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
        effect
    }

    /// Takes an event, if it may concern us. Messages of family `AF_BRIDGE` do not: taking a port
    /// out of a bridge sends a `DELLINK` of that family although the link still exists, and a
    /// `NEWLINK` of no family beside it.
    fn event(&mut self, event: RouteNetlinkMessage, ours: &Ours, bridge: Option<u32>) -> Effect {
        use RouteNetlinkMessage::{
            DelAddress, DelLink, DelRoute, DelRule, NewAddress, NewLink, NewRoute, NewRule,
        };
        match event {
            NewLink(link) | DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.link(link.header.index);
            }
            NewAddress(address) | DelAddress(address)
                if bridge.is_none_or(|bridge| address.header.index == bridge) =>
            {
                self.addresses = true;
            }
            NewRoute(route) | DelRoute(route) if parse::table(&route) == ours.table => self.routes = true,
            NewRoute(route) | DelRoute(route) if is_main_default(&route) => self.primary = true,
            NewRule(rule) => return self.rule(RuleChange::Added(rule)),
            DelRule(rule) => return self.rule(RuleChange::Deleted(rule)),
            _ => return Effect::default(),
        }
        Effect { concerns: true, overtakes: true, rule: false }
    }

    fn link(&mut self, index: u32) {
        self.links.insert(index);
        if self.links.len() > MAX_LINKS {
            self.links.clear();
            self.everything = true;
        }
    }

    fn rule(&mut self, change: RuleChange) -> Effect {
        match &mut self.rules {
            RuleChanges::Events(events) if events.len() < MAX_RULES => events.push(change),
            rules => *rules = RuleChanges::Many,
        }
        Effect { concerns: true, overtakes: false, rule: true }
    }

    /// Handles a message that is not an event: everything may have changed.
    fn unknown(&mut self) -> Effect {
        *self = Self::everything();
        Effect { concerns: true, overtakes: true, rule: true }
    }

    /// Forgets the events of rules; a dump of the rules shows them.
    pub(super) fn forget_rules(&mut self) {
        drop(mem::take(&mut self.rules));
    }
}

/// Whether a route is a default route of table main.
fn is_main_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && parse::table(route) == MAIN
}

/// The effect of a datagram on a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// It has an event that may concern us.
    pub(super) concerns: bool,
    /// It has such an event of an object other than a rule.
    pub(super) overtakes: bool,
    /// It has an event of a rule.
    pub(super) rule: bool,
}

impl Effect {
    fn add(&mut self, other: Self) {
        self.concerns |= other.concerns;
        self.overtakes |= other.overtakes;
        self.rule |= other.rule;
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::{address::AddressMessage, link::LinkMessage};

    use super::*;

    #[test]
    fn only_objects_that_may_be_ours_count() {
        use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, DelRule, NewNeighbour};
        let mut from_bridge = LinkMessage::default();
        from_bridge.header.interface_family = AddressFamily::Bridge;
        let mut address = AddressMessage::default();
        address.header.index = 3;
        let mut of_another = AddressMessage::default();
        of_another.header.index = 4;
        let mut route = RouteMessage::default();
        route.header.table = 1;
        let mut main = RouteMessage::default();
        main.header.table = 254;
        let mut connected = main.clone();
        connected.header.destination_prefix_length = 24;
        let table = [
            (DelLink(LinkMessage::default()), true),
            (DelLink(from_bridge), false),
            (DelAddress(address), true),
            (DelAddress(of_another), false),
            (DelRoute(route), true),
            (DelRoute(main), true),
            (DelRoute(connected), false),
            (DelRule(RuleMessage::default()), true),
            (NewNeighbour(Default::default()), false),
        ];
        for (event, expected) in table {
            let name = format!("{event:?}");
            let effect = Changes::default().event(event, &Ours::default(), Some(3));
            assert_eq!(effect.concerns, expected, "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_event_change_everything() {
        let mut changes = Changes::default();
        let effect = changes.take(&[1, 2, 3], &Ours::default(), None);
        assert_eq!(effect, Effect { concerns: true, overtakes: true, rule: true });
        assert!(changes.everything);
        let mut changes = Changes::default();
        assert_eq!(changes.take(&[], &Ours::default(), None), Effect::default());
        assert!(!changes.everything);
    }

    #[test]
    fn the_collection_of_changes_is_bounded() {
        let mut changes = Changes::default();
        for index in 0..1000 {
            changes.link(index);
            changes.rule(RuleChange::Added(RuleMessage::default()));
        }
        assert!(changes.everything && changes.links.len() <= MAX_LINKS);
        assert!(matches!(changes.rules, RuleChanges::Many));
        changes.forget_rules();
        assert!(matches!(changes.rules, RuleChanges::Events(events) if events.is_empty()));
    }
}
