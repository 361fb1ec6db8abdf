// SPDX-License-Identifier: Apache-2.0

//! Reads the kernel: everything, or the objects that have changed since the last read.

use std::collections::BTreeSet;

use rtnetlink::packet_route::{RouteNetlinkMessage, link::LinkMessage};

use super::{
    Netlink, message, parse,
    requests::{Attempts, unless},
    watch::{Changes, RuleChange, RuleChanges},
};
use crate::{
    api::Family,
    kernel::{Link, LinkKind, Observed, Ours, Refusal, backend::errno},
};

impl Netlink {
    /// Reads everything.
    pub(super) async fn all(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        drop(self.watch.changes(ours, self.bridge));
        let mut observed = Observed::default();
        self.links(&mut observed, ours).await?;
        self.bridge = observed.bridge(ours).map(|link| link.index);
        self.addresses(&mut observed).await?;
        self.rules(&mut observed, ours).await?;
        self.routes(&mut observed, ours).await?;
        self.primary(&mut observed).await?;
        Ok(observed)
    }

    /// Reads the objects that have changed since `observed` was read. If the default routes of
    /// table main have changed, which is rare, everything is read.
    pub(super) async fn again(&mut self, ours: &Ours, mut observed: Observed) -> Result<Observed, Refusal> {
        let mut changes = self.watch.changes(ours, self.bridge);
        if changes.everything || changes.primary {
            return self.all(ours).await;
        }
        self.changed_links(&mut observed, ours, &mut changes).await?;
        if changes.primary {
            return self.all(ours).await;
        }
        if changes.addresses {
            self.addresses(&mut observed).await?;
        }
        let applied = match changes.rules {
            RuleChanges::Events(events) => events.iter().all(|event| apply(&mut observed, event, ours)),
            RuleChanges::Many => false,
        };
        if !applied {
            self.rules(&mut observed, ours).await?;
        }
        if changes.routes || changes.addresses {
            self.routes(&mut observed, ours).await?;
        }
        Ok(observed)
    }

    /// All links.
    pub(super) async fn links(&mut self, observed: &mut Observed, ours: &Ours) -> Result<(), Refusal> {
        observed.links.clear();
        for answer in self.requests.dump(message::get_links()).await? {
            if let RouteNetlinkMessage::NewLink(message) = answer {
                take_link(observed, &message, ours);
            }
        }
        Ok(())
    }

    /// Links that have changed, and our bridge, whose settings change without an event. Linux
    /// removes routes without an event when a link goes down or is deleted, and with the addresses
    /// of the bridge.
    async fn changed_links(
        &mut self,
        observed: &mut Observed,
        ours: &Ours,
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
        let before = observed.bridge_settings;
        let unreported = self.bridge.filter(|bridge| !changes.links.contains(bridge));
        for index in changes.links.iter().copied().chain(unreported) {
            let was_primary = self.primary.contains(&index);
            let now = self.changed_link(observed, ours, index).await?;
            if unreported == Some(index) && now.is_some() && observed.bridge_settings == before {
                continue;
            }
            let lost = now.as_ref().is_none_or(|link| !link.up);
            let is_bridge =
                self.bridge == Some(index) || now.is_some_and(|link| link.kind == LinkKind::Bridge);
            changes.addresses |= is_bridge;
            changes.routes |= lost || is_bridge;
            changes.primary |= lost && was_primary;
        }
        mark(observed, &self.primary);
        self.bridge = observed.bridge(ours).map(|link| link.index);
        if self.bridge.is_none() {
            observed.bridge_settings = Default::default();
        }
        Ok(())
    }

    /// A link that may have changed or may have been deleted.
    async fn changed_link(
        &self,
        observed: &mut Observed,
        ours: &Ours,
        index: u32,
    ) -> Result<Option<Link>, Refusal> {
        observed.links.retain(|_, link| link.index != index);
        Ok(match self.requests.get(message::get_link(index)).await? {
            Some(RouteNetlinkMessage::NewLink(message)) => take_link(observed, &message, ours),
            _ => None,
        })
    }

    /// Addresses of our bridge.
    async fn addresses(&mut self, observed: &mut Observed) -> Result<(), Refusal> {
        observed.addresses.clear();
        let Some(bridge) = self.bridge else { return Ok(()) };
        let answers = self.requests.dump(message::get_addresses(bridge)).await;
        for answer in unless(errno::ENODEV, answers)?.into_iter().flatten() {
            if let RouteNetlinkMessage::NewAddress(address) = answer {
                observed.addresses.extend(parse::address(&address, bridge));
            }
        }
        Ok(())
    }

    /// Rules of both families. Linux does not report whether changes interrupted a dump of rules;
    /// the events of the rules show it.
    async fn rules(&mut self, observed: &mut Observed, ours: &Ours) -> Result<(), Refusal> {
        let mut attempts = Attempts::default();
        loop {
            let before = self.watch.rule_changes(ours, self.bridge);
            self.watch.forget_rules();
            observed.rules.clear();
            for family in Family::BOTH {
                self.rules_of(observed, ours, family).await?;
            }
            if self.watch.rule_changes(ours, self.bridge) == before {
                return Ok(());
            }
            attempts.again().await?;
        }
    }

    async fn rules_of(&self, observed: &mut Observed, ours: &Ours, family: Family) -> Result<(), Refusal> {
        match self.requests.dump(message::get_rules(family)).await {
            Err(refusal) if refusal.errno == errno::EAFNOSUPPORT && family == Family::V6 => {
                observed.without_v6 = true;
                Ok(())
            }
            Err(refusal) => Err(refusal),
            Ok(answers) => {
                for answer in answers {
                    if let RouteNetlinkMessage::NewRule(rule) = answer {
                        observed.rules.extend(parse::rule(&rule, ours));
                    }
                }
                Ok(())
            }
        }
    }

    /// Default routes of our table.
    async fn routes(&mut self, observed: &mut Observed, ours: &Ours) -> Result<(), Refusal> {
        observed.routes.clear();
        for family in observed.families() {
            let routes = self.default_routes(family, ours.table).await?;
            observed.routes.extend(routes.into_iter().map(|route| route.route));
        }
        Ok(())
    }

    /// Marks the devices of the default routes of table main.
    async fn primary(&mut self, observed: &mut Observed) -> Result<(), Refusal> {
        self.primary.clear();
        for family in observed.families() {
            let routes = self.default_routes(family, message::MAIN).await?;
            self.primary.extend(routes.into_iter().flat_map(|route| route.devices));
        }
        mark(observed, &self.primary);
        Ok(())
    }

    /// Default routes of a table. For the kernel, a table without routes does not exist.
    async fn default_routes(
        &mut self,
        family: Family,
        table: u32,
    ) -> Result<Vec<parse::DefaultRoute>, Refusal> {
        let answers = self.requests.dump(message::get_routes(family, table)).await;
        let routes = unless(errno::ENOENT, answers)?.into_iter().flatten();
        let default_routes = routes.filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => parse::default_route(&route, table),
            _ => None,
        });
        Ok(default_routes.collect())
    }
}

/// Adds a link to `observed`.
fn take_link(observed: &mut Observed, message: &LinkMessage, ours: &Ours) -> Option<Link> {
    let (name, link) = parse::link(message)?;
    if name == ours.bridge {
        observed.bridge_settings = parse::bridge_settings(message);
    }
    observed.links.insert(name, link.clone());
    Some(link)
}

/// Marks the devices by which the pod's own traffic leaves.
fn mark(observed: &mut Observed, primary: &BTreeSet<u32>) {
    observed
        .links
        .values_mut()
        .filter(|link| link.kind == LinkKind::Other && primary.contains(&link.index))
        .for_each(|link| link.kind = LinkKind::Primary);
}

/// Applies the event of a rule to `observed`. Returns false if `observed` does not have the removed
/// rule: it then differs from the kernel and cannot be used.
fn apply(observed: &mut Observed, change: &RuleChange, ours: &Ours) -> bool {
    let rules = &mut observed.rules;
    match change {
        RuleChange::Added(message) => {
            let Some(rule) = parse::rule(message, ours) else { return true };
            rules.insert(
                rules.partition_point(|other| (other.family, other.priority) <= (rule.family, rule.priority)),
                rule,
            );
            true
        }
        RuleChange::Deleted(message) => {
            let Some(rule) = parse::rule(message, ours) else { return true };
            let at = rules.iter().position(|other| *other == rule);
            at.map(|at| rules.remove(at)).is_some()
        }
    }
}
