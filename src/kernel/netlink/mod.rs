// SPDX-License-Identifier: Apache-2.0

//! Read and write the kernel of the current network namespace by rtnetlink.
//!
//! Needs `CAP_NET_ADMIN` in the user namespace that owns the network namespace; without it every change is refused with `EPERM`.

mod answers;
pub(super) mod dump;
mod message;
mod neighbours;
mod parse;
mod requests;
mod watch;

use std::io;

use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use self::{
    neighbours::NeighbourSocket,
    requests::{Attempts, Checks, Requests},
    watch::Watch,
};
use super::{
    Backend, Link, LinkKind, Observed, Op, Ours, Refusal, WrongSysctl,
    announce::{Announcements, PacketSocket},
    backend::{errno, in_effect},
    liveness::{self, Neighbours},
    wrong_sysctls,
};
use crate::api::Family;

/// The kernel of the network namespace that the thread was in when it was opened.
pub struct Netlink {
    requests: Requests,
    watch: Watch,
    checks: Checks,
    /// Index of our bridge at the last dump.
    bridge: Option<u32>,
}

impl Netlink {
    /// Open the sockets, on a thread of a tokio runtime.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn open() -> io::Result<Self> {
        Self::with(Checks::IfPossible)
    }

    fn with(checks: Checks) -> io::Result<Self> {
        Ok(Self { requests: Requests::open(checks)?, watch: Watch::open()?, checks, bridge: None })
    }

    async fn links(&mut self, observed: &mut Observed, ours: &Ours) -> Result<(), Refusal> {
        for answer in self.requests.dump(message::get_links()).await? {
            if let RouteNetlinkMessage::NewLink(message) = answer
                && let Some((name, link)) = parse::link(&message)
            {
                if name == ours.bridge {
                    observed.bridge_settings = parse::bridge_settings(&message);
                }
                observed.links.insert(name, link);
            }
        }
        Ok(())
    }

    async fn addresses(&mut self, observed: &mut Observed, bridge: u32) -> Result<(), Refusal> {
        match self.requests.dump(message::get_addresses(bridge)).await {
            Err(refusal) if refusal.errno == errno::ENODEV => Ok(()),
            Err(refusal) => Err(refusal),
            Ok(answers) => {
                for answer in answers {
                    if let RouteNetlinkMessage::NewAddress(address) = answer {
                        observed.addresses.extend(parse::address(&address, bridge));
                    }
                }
                Ok(())
            }
        }
    }

    /// Rules of both families. Of a dump of rules Linux does not report whether changes interrupted it: their events do.
    async fn rules(&mut self, observed: &mut Observed, ours: &Ours) -> Result<(), Refusal> {
        let mut attempts = Attempts::default();
        loop {
            let before = self.watch.rule_changes(ours, self.bridge);
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

    /// Default routes of a table. A table without routes does not exist for the kernel.
    async fn routes(&mut self, family: Family, table: u32) -> Result<Vec<parse::DefaultRoute>, Refusal> {
        match self.requests.dump(message::get_routes(family, table)).await {
            Err(refusal) if refusal.errno == errno::ENOENT => Ok(Vec::new()),
            Err(refusal) => Err(refusal),
            Ok(answers) => {
                let route = |answer| match answer {
                    RouteNetlinkMessage::NewRoute(route) => parse::default_route(&route, table),
                    _ => None,
                };
                Ok(answers.into_iter().filter_map(route).collect())
            }
        }
    }

    /// Index of the bridge, if a change needs it (else 0); none if there is no bridge.
    async fn bridge_for(&mut self, ours: &Ours, op: &Op) -> Result<Option<u32>, Refusal> {
        let needed = matches!(
            op,
            Op::RaiseBridge
                | Op::ConfigureBridge
                | Op::DeleteBridge
                | Op::AddAddress(_)
                | Op::DeleteAddress(_)
                | Op::SetNextHops(..)
                | Op::ForgetNeighbour(_)
                | Op::Attach(..)
        );
        if needed && self.bridge.is_none() {
            let mut observed = Observed::default();
            self.links(&mut observed, ours).await?;
            self.bridge = observed.bridge(ours).map(|link| link.index);
        }
        Ok(if needed { self.bridge } else { Some(0) })
    }

    /// Mark the devices of the default routes of table main.
    async fn primary(&mut self, observed: &mut Observed, family: Family) -> Result<(), Refusal> {
        for route in self.routes(family, message::MAIN).await? {
            let primary =
                |link: &&mut Link| link.kind == LinkKind::Other && route.devices.contains(&link.index);
            observed.links.values_mut().filter(primary).for_each(|link| link.kind = LinkKind::Primary);
        }
        Ok(())
    }
}

impl Backend for Netlink {
    async fn dump(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        self.watch.forget(ours, self.bridge);
        let mut observed = Observed::default();
        self.links(&mut observed, ours).await?;
        self.bridge = observed.bridge(ours).map(|link| link.index);
        if let Some(bridge) = self.bridge {
            self.addresses(&mut observed, bridge).await?;
        }
        self.rules(&mut observed, ours).await?;
        for family in observed.families() {
            let routes = self.routes(family, ours.table).await?;
            observed.routes.extend(routes.into_iter().map(|route| route.route));
            self.primary(&mut observed, family).await?;
        }
        Ok(observed)
    }

    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        let answer = match self.bridge_for(ours, op).await? {
            Some(bridge) => {
                let (message, flags) = message::of(ours, bridge, op);
                self.requests.change(message, flags).await
            }
            None => Err(Refusal::errno(errno::ENODEV)),
        };
        match answer {
            Err(refusal) if !in_effect(op, refusal.errno) => Err(refusal),
            _ => Ok(()),
        }
    }

    fn wrong_sysctls(&mut self, ours: &Ours, families: &[Family]) -> Vec<WrongSysctl> {
        wrong_sysctls(families, &ours.bridge)
    }

    fn neighbours(&mut self, settings: Option<liveness::Settings>) -> io::Result<Box<dyn Neighbours>> {
        Ok(Box::new(NeighbourSocket::open(settings)?))
    }

    fn announcements(&mut self) -> io::Result<Box<dyn Announcements>> {
        Ok(Box::new(PacketSocket::open()?))
    }

    async fn changed(&mut self, ours: &Ours) {
        self.watch.changed(ours, self.bridge).await;
    }

    fn overtaken(&mut self, ours: &Ours) -> bool {
        self.watch.overtaken(ours, self.bridge)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.requests = Requests::open(self.checks)?;
        Ok(())
    }
}

/// A family as netlink numbers it.
const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests;
