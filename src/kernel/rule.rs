// SPDX-License-Identifier: Apache-2.0

//! Describe policy rules of the kinds this process makes, and those of an earlier process that it understands.

use std::fmt;

use ipnet::IpNet;

use super::Ours;
use crate::api::{Family, InterfaceName};

/// Priorities of our rules. Rules that the Go proxy makes get theirs from the kernel: 32765 and downwards.
pub(super) mod priority {
    /// VIPs, as long as they are few.
    pub(in crate::kernel) const FLAT: u32 = 30_000;
    /// The way into the tree of VIPs.
    pub(in crate::kernel) const ROOT: u32 = 30_001;
    /// The way into the tree if its root has no common prefix: a rule without `from` would be "File exists" beside one with it.
    pub(in crate::kernel) const ROOT_OF_ALL: u32 = 30_002;
    /// A VIP of length 0, alone for the same reason.
    pub(in crate::kernel) const ALL: u32 = 30_003;
    /// What enters by one of our links and is from no VIP ends here: the last before table main, so that it stands after the Go
    /// proxy's rules too.
    pub(in crate::kernel) const LEAK_STOP: u32 = 32_765;
    /// Blocks of the tree: behind table main, where only the goto of the root leads.
    pub(in crate::kernel) const TREE: u32 = 0x1_0000;
}

/// A policy rule with at most a source and an input interface as selectors. Ordered by priority first.
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
    /// What happens to a packet that matches.
    pub action: Action,
    /// `protocol`: who made it.
    pub protocol: u8,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Look up the destination in a table; go on if it has no route.
    Lookup(u32),
    /// Go on at the first rule with this priority; skipped while there is none.
    Goto(u32),
    /// Drop, without an answer. `prohibit` and `unreachable` would send one by the primary network.
    Blackhole,
}

impl Rule {
    /// Drop what enters by a link. Packets to this host are not concerned: table local comes first.
    pub(super) fn leak_stop(ours: &Ours, family: Family, link: &InterfaceName) -> Self {
        let (priority, action) = (priority::LEAK_STOP, Action::Blackhole);
        Self { priority, family, source: None, input: Some(link.clone()), action, protocol: ours.protocol }
    }

    /// The link whose packets the rule drops, if it is a [leak stop](Self::leak_stop) of ours.
    pub(super) fn stops_leaks_of(&self, ours: &Ours) -> Option<&InterfaceName> {
        let ours = self.protocol == ours.protocol && self.priority == priority::LEAK_STOP;
        let stop = ours && self.action == Action::Blackhole && self.source.is_none();
        self.input.as_ref().filter(|_| stop)
    }

    /// Whether it sends a source to our table: a VIP rule of ours or of the Go proxy (which does not tag what it makes).
    pub(super) fn routes_vip(&self, ours: &Ours) -> bool {
        self.action == Action::Lookup(ours.table) && (self.protocol == ours.protocol || self.made_by_go(ours))
    }

    /// Whether it has the shape of the Go proxy's VIP rules: `from X lookup 1`, no tag. `ip rule add` leaves protocol boot.
    pub(super) fn made_by_go(&self, ours: &Ours) -> bool {
        const UNTAGGED: [u8; 2] = [0, 3];
        let shape =
            self.source.is_some() && self.input.is_none() && self.action == Action::Lookup(ours.table);
        shape && UNTAGGED.contains(&self.protocol)
    }
}

impl fmt::Display for Rule {
    /// As `ip rule` prints it.
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
