// SPDX-License-Identifier: Apache-2.0

//! Policy rules of the kinds that this process makes, and those of an earlier process that it
//! recognises.

use std::fmt;

use ipnet::IpNet;

use super::Ours;
use crate::api::{Family, InterfaceName};

/// Priorities of our rules. The kernel chooses those of the Go proxy's rules: 32765 and downwards.
pub(super) mod priority {
    /// VIPs, while they are few.
    pub(in crate::kernel) const FLAT: u32 = 30_000;
    /// The entry to the tree of VIPs.
    pub(in crate::kernel) const ROOT: u32 = 30_001;
    /// The entry to the tree if its root has no common prefix: the kernel refuses a rule without
    /// `from` beside one with `from` at the same priority ("File exists").
    pub(in crate::kernel) const ROOT_OF_ALL: u32 = 30_002;
    /// A VIP of length 0, alone for the same reason.
    pub(in crate::kernel) const ALL: u32 = 30_003;
    /// Drops packets that enter by one of our links and are not from a VIP: the last rule before
    /// table main, so that it also comes after the Go proxy's rules.
    pub(in crate::kernel) const LEAK_STOP: u32 = 32_765;
    /// Blocks of the tree: behind table main, where only the goto of the root leads.
    pub(in crate::kernel) const TREE: u32 = 0x1_0000;
}

/// A policy rule with at most a source and an input interface as selectors. Ordered by priority
/// first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Rules are walked from low to high.
    pub priority: u32,
    /// The family of the packets.
    pub family: Family,
    /// `from`; absent matches every source.
    pub source: Option<IpNet>,
    /// `iif`; the interface need not exist.
    pub input: Option<InterfaceName>,
    /// The action for packets that match.
    pub action: Action,
    /// `protocol`: the program that made it.
    pub protocol: u8,
}

/// The effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Look the destination up in a table, and continue with the next rule if the table has no
    /// route.
    Lookup(u32),
    /// Continue at the first rule of this priority; without such a rule, the goto is skipped.
    Goto(u32),
    /// Drop without an answer. The answer of `prohibit` and `unreachable` would leave by the
    /// primary network.
    Blackhole,
}

impl Rule {
    /// Drops packets that enter by a link. Packets to this host are not affected: table local comes
    /// first.
    pub(super) fn leak_stop(ours: &Ours, family: Family, link: &InterfaceName) -> Self {
        let priority = priority::LEAK_STOP;
        let action = Action::Blackhole;
        Self { priority, family, source: None, input: Some(link.clone()), action, protocol: ours.protocol }
    }

    /// The link whose packets the rule drops, if it is a [leak stop](Self::leak_stop) of ours.
    pub(super) fn stops_leaks_of(&self, ours: &Ours) -> Option<&InterfaceName> {
        let ours = self.protocol == ours.protocol && self.priority == priority::LEAK_STOP;
        let stop = ours && self.action == Action::Blackhole && self.source.is_none();
        self.input.as_ref().filter(|_| stop)
    }

    /// Whether it sends a source to our table: a VIP rule of ours or of the Go proxy (which does
    /// not tag its rules).
    pub(super) fn routes_vip(&self, ours: &Ours) -> bool {
        self.action == Action::Lookup(ours.table) && (self.protocol == ours.protocol || self.made_by_go(ours))
    }

    /// Whether it has the shape of the Go proxy's VIP rules: `from X lookup 1` without a tag. `ip
    /// rule add` leaves protocol boot.
    pub(super) fn made_by_go(&self, ours: &Ours) -> bool {
        const UNTAGGED: [u8; 2] = [0, 3];
        let shape =
            self.source.is_some() && self.input.is_none() && self.action == Action::Lookup(ours.table);
        shape && UNTAGGED.contains(&self.protocol)
    }
}

impl fmt::Display for Rule {
    /// Formats as `ip rule` does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        match &self.source {
            Some(source) => write!(f, " from {source}")?,
            None => write!(f, " from all ({})", self.family)?,
        }
        if let Some(input) = &self.input {
            write!(f, " iif {input}")?;
        }
        match self.action {
            Action::Lookup(table) => write!(f, " lookup {table}"),
            Action::Goto(priority) => write!(f, " goto {priority}"),
            Action::Blackhole => f.write_str(" blackhole"),
        }
    }
}
