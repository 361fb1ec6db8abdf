// SPDX-License-Identifier: Apache-2.0

//! Translates VIPs into the rules that send their packets to our table.
//!
//! The kernel tries rules one by one, so a rule for each VIP costs most of the throughput at a few
//! thousand of them. More than [`LEAF`] prefixes of a family therefore become a radix tree of
//! `goto` rules:
//! 1. A *block* belongs to the longest common prefix of some VIPs; its priority depends on that
//!    prefix alone.
//! 2. A block of at most [`LEAF`] prefixes has a rule for each. A larger one is split at the next
//!    [`STEP`] bits: a part with one prefix is a rule, a larger part a `goto` to the block of its
//!    own common prefix.
//! 3. The last rule of a block drops: packets that reach it entered by the bridge and are not from
//!    a VIP.
//! 4. The root is one rule before table main, the blocks lie behind it. A longer prefix has a
//!    higher priority number, because `goto` leads only forwards. Two blocks may have equal
//!    numbers, because their prefixes are disjoint.
//!
//! The contents of a block depend only on the VIPs below its prefix, so adding or removing one VIP
//! changes only a few rules, wherever it lies. All rules have `iif <bridge>`; the pod's own packets
//! are compared only with the root.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{
    Action, Ours, Rule,
    aggregate::{Prefix, aggregate},
    rule::priority,
};
use crate::api::Family;

/// Maximum number of prefixes in a block without further blocks.
const LEAF: usize = 8;
/// Bits of an address by which a block is split.
const STEP: u8 = 2;

/// The rules of a set of VIPs.
pub fn vip_rules(ours: &Ours, vips: &[IpNet]) -> BTreeSet<Rule> {
    let mut out = BTreeSet::new();
    for family in Family::BOTH {
        let prefixes = aggregate(vips.iter().copied(), family);
        Tree { ours, family, out: &mut out }.grow(&prefixes);
    }
    out
}

struct Tree<'a> {
    ours: &'a Ours,
    family: Family,
    out: &'a mut BTreeSet<Rule>,
}

impl Tree<'_> {
    fn grow(&mut self, prefixes: &[Prefix]) {
        if prefixes.len() > LEAF {
            let root = common(prefixes);
            let priority = if root.len == 0 { priority::ROOT_OF_ALL } else { priority::ROOT };
            self.rule(priority, root, Action::Goto(block(root)));
            return self.block(prefixes);
        }
        for prefix in prefixes {
            let priority = if prefix.len == 0 { priority::ALL } else { priority::FLAT };
            self.rule(priority, *prefix, self.lookup());
        }
    }

    /// Writes the block of some prefixes (rules 1 to 3). They are sorted and disjoint, and more
    /// than one.
    fn block(&mut self, prefixes: &[Prefix]) {
        let top = common(prefixes);
        let priority = block(top);
        self.rule(priority + 1, Prefix::new(0, 0), Action::Blackhole);
        let split = top.len.saturating_add(STEP);
        let parts = prefixes.chunk_by(|a, b| {
            a.len >= split && b.len >= split && Prefix::new(a.bits, split) == Prefix::new(b.bits, split)
        });
        for part in parts {
            if prefixes.len() <= LEAF || part.len() == 1 {
                part.iter().for_each(|prefix| self.rule(priority, *prefix, self.lookup()));
            } else {
                let child = common(part);
                self.rule(priority, child, Action::Goto(block(child)));
                self.block(part);
            }
        }
    }

    fn lookup(&self) -> Action {
        Action::Lookup(self.ours.table)
    }

    fn rule(&mut self, priority: u32, source: Prefix, action: Action) {
        self.out.insert(Rule {
            priority,
            family: self.family,
            source: (source.len > 0).then(|| source.to_net(self.family)),
            input: Some(self.ours.bridge.clone()),
            action,
            protocol: self.ours.protocol,
        });
    }
}

fn common(prefixes: &[Prefix]) -> Prefix {
    match prefixes {
        [first, .., last] => first.common(*last),
        [only] => *only,
        [] => Prefix::new(0, 0),
    }
}

/// The priority of the block of a prefix: ordered by length, and within a length spread by the
/// bits. The next number is the end of the block.
fn block(prefix: Prefix) -> u32 {
    const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let spread = (prefix.bits >> 1).wrapping_mul(SPREAD) >> (128 - 23);
    priority::TREE + (u32::from(prefix.len) << 24) + ((spread as u32) << 1)
}

#[cfg(test)]
mod tests;
