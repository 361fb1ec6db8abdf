// SPDX-License-Identifier: Apache-2.0

//! Compares a dump of the backend under test with the objects that the witness reads.

use std::collections::BTreeSet;

use rtnetlink::packet_route::{address::AddressScope, route::RouteType};

use crate::testing::witness;
use crate::{
    api::Family,
    kernel::{Action, Observed, Ours, Route, RouteTarget, Rule},
};

/// The dump has the links, addresses, rules and routes of the witness, and no others.
pub(in crate::kernel) fn agrees(observed: &Observed) {
    let seen = Seen(witness::links());
    seen.links(observed);
    seen.addresses(observed);
    let rules: BTreeSet<_> = observed.rules.iter().map(witnessed).collect();
    let said = witness::rules();
    assert_eq!(observed.rules.len(), said.len(), "{said:?}");
    assert_eq!(rules, said.into_iter().collect());
    for family in Family::BOTH {
        seen.routes(observed, family);
    }
}

struct Seen(Vec<witness::Link>);

impl Seen {
    fn name(&self, index: u32) -> String {
        let found = self.0.iter().find(|link| link.index == index);
        found.unwrap_or_else(|| panic!("no link {index} in {:?}", self.0)).name.clone()
    }

    fn links(&self, observed: &Observed) {
        let observed = observed.links.iter().map(|(name, link)| {
            let controller = link.controller.map(|index| self.name(index));
            (name.to_string(), link.index, link.alias.clone(), link.up, controller)
        });
        let said = self.0.iter().cloned();
        let said = said.map(|link| (link.name, link.index, link.alias, link.up, link.controller));
        assert_eq!(observed.collect::<BTreeSet<_>>(), said.collect());
    }

    fn addresses(&self, observed: &Observed) {
        let bridge = Ours::default().bridge;
        let there = self.0.iter().find(|link| link.name == bridge.as_str());
        let said = there.into_iter().flat_map(|link| witness::addresses(&link.name));
        let said = said.filter(|address| address.scope != AddressScope::Link).map(|address| address.net);
        assert_eq!(observed.addresses, said.collect());
    }

    fn routes(&self, observed: &Observed, family: Family) {
        let known = |route: &Route| {
            let hops: BTreeSet<_> = route
                .hops()
                .into_iter()
                .flatten()
                .map(|hop| witness::NextHop { via: Some(hop.via), dev: self.name(hop.device) })
                .collect();
            (route.metric, route.protocol, route.target == RouteTarget::Blackhole, hops)
        };
        let observed = observed.routes.iter().filter(|route| route.family == family).map(known);
        let said = witness::routes(family, Ours::default().table).into_iter().map(|route| {
            let hops: BTreeSet<_> = route.hops.into_iter().collect();
            (route.metric, route.protocol, route.kind == RouteType::BlackHole, hops)
        });
        assert_eq!(observed.collect::<BTreeSet<_>>(), said.collect());
    }
}

fn witnessed(rule: &Rule) -> witness::Rule {
    witness::Rule {
        family: rule.family,
        priority: rule.priority,
        inverted: false,
        from: rule.source,
        iif: rule.input.as_ref().map(ToString::to_string),
        action: match rule.action {
            Action::Lookup(table) => witness::Action::Lookup(table),
            Action::Goto(target) => witness::Action::Goto(target),
            Action::Blackhole => witness::Action::Blackhole,
        },
        protocol: rule.protocol,
    }
}
