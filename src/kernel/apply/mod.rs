// SPDX-License-Identifier: Apache-2.0

//! Makes the changes of a plan. A change that fails does not stop the others.
//!
//! Two kinds of changes depend on others: a link becomes a port only if all leak stops are in
//! place, and a VIP rule is removed only if the rules that replace it are in place. The next pass
//! plans the omitted changes again.

mod isolate;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use self::isolate::{is_of_a_next_hop, isolate};
use super::{Action, Backend, Failure, Observed, Op, Ours, Refusal, rule::priority};

/// Number of changes after which a plan may be left.
const BATCH: usize = 64;

/// The outcome of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The plan was left before its end.
    pub(super) left: bool,
    /// Changes made.
    pub(super) writes: u64,
    /// Changes that failed.
    pub(super) failures: Vec<Failure>,
    /// Next hops that the kernel does not accept in a route, with its answers.
    pub(super) refused: BTreeMap<IpAddr, String>,
}

/// Makes the changes, in order.
///
/// A plan may be left at any change, because its order breaks nothing on the way. It is left in two
/// places: before the VIP rules, if a caller may be waiting for the changes made so far (a target
/// does not wait for thousands of rules); and after a batch, if something else has been declared
/// (`outdated`) or has changed in the kernel (a next hop that comes or goes does not wait either).
///
/// A route that is refused because of one next hop is made with the others.
pub(super) async fn apply<B: Backend>(
    backend: &mut B,
    observed: &Observed,
    ours: &Ours,
    ops: &[Op],
    outdated: impl Fn() -> bool,
) -> Applied {
    let mut applied = Applied::default();
    let mut missing = BTreeSet::new();
    let mut awaited = false;
    for (done, op) in ops.iter().enumerate() {
        if (awaited && is_bulk(op))
            || (done > 0 && done % BATCH == 0 && (outdated() || backend.overtaken(ours)))
        {
            applied.left = true;
            break;
        }
        if depends_on(op).is_some_and(|needed| missing.contains(&needed)) {
            continue;
        }
        match backend.apply(ours, op).await {
            Ok(()) => {
                trace(op);
                applied.writes += 1;
                awaited |= !is_bulk(op);
            }
            Err(refusal) => {
                missing.extend(provides(op));
                applied.refusal(backend, (ours, observed), op, refusal).await;
            }
        }
    }
    applied
}

impl Applied {
    /// Records a refused change, after trying the part of it that is possible.
    async fn refusal<B: Backend>(
        &mut self,
        backend: &mut B,
        at: (&Ours, &Observed),
        op: &Op,
        refusal: Refusal,
    ) {
        if let Op::SetNextHops(family, hops) = op
            && hops.len() > 1
            && is_of_a_next_hop(refusal.errno)
            && let Some(refused) = isolate(backend, at, (*family, hops)).await
        {
            self.writes += 1;
            self.refused.extend(refused);
            return;
        }
        self.failures.push(Failure { op: Some(op.clone()), refusal });
    }
}

/// Logs a change; thousands of similar ones are not logged at the default level.
fn trace(op: &Op) {
    match is_bulk(op) {
        true => tracing::trace!(%op, "done"),
        false => tracing::debug!(%op, "done"),
    }
}

/// The kinds of changes on which others depend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needed {
    LeakStop,
    VipRules,
}

/// Whether a change is one of many for which no caller waits.
fn is_bulk(op: &Op) -> bool {
    match op {
        Op::AddRule(_) => provides(op) != Some(Needed::LeakStop),
        Op::DeleteRule(_) => true,
        _ => false,
    }
}

fn provides(op: &Op) -> Option<Needed> {
    match op {
        Op::AddRule(rule) if rule.priority == priority::LEAK_STOP && rule.action == Action::Blackhole => {
            Some(Needed::LeakStop)
        }
        Op::AddRule(_) => Some(Needed::VipRules),
        _ => None,
    }
}

fn depends_on(op: &Op) -> Option<Needed> {
    match op {
        Op::Attach(..) => Some(Needed::LeakStop),
        Op::DeleteRule(rule) if rule.priority != priority::LEAK_STOP || rule.action != Action::Blackhole => {
            Some(Needed::VipRules)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Family,
        kernel::{Memory, Rule},
    };

    #[tokio::test]
    async fn a_new_declaration_ends_a_long_plan_between_batches() {
        let rule = |i: u32| Rule {
            priority: 100 + i,
            ..Rule::leak_stop(&Ours::default(), Family::V4, &Ours::default().bridge)
        };
        let ops: Vec<Op> = (0..200).map(|i| Op::AddRule(rule(i))).collect();
        for (outdated, expected) in [(false, 200), (true, BATCH as u64)] {
            let mut linux = Memory::default();
            let applied = apply(&mut linux, &Observed::default(), &Ours::default(), &ops, || outdated).await;
            assert_eq!((applied.writes, applied.left), (expected, outdated));
        }
        let none = Observed::default();
        let applied = apply(&mut Memory::default(), &none, &Ours::default(), &ops[..BATCH], || true).await;
        assert_eq!((applied.writes, applied.left), (BATCH as u64, false), "a short one is not");
    }

    #[tokio::test]
    async fn a_plan_is_left_before_the_vip_rules_if_a_caller_may_wait() {
        let ours = Ours::default();
        let vips = |i: u32| {
            Op::AddRule(Rule { priority: 100 + i, ..Rule::leak_stop(&ours, Family::V4, &ours.bridge) })
        };
        let mut ops: Vec<Op> = (0..200).map(vips).collect();
        ops.insert(BATCH, Op::AddRule(Rule::leak_stop(&ours, Family::V4, &"nsm-1".parse().unwrap())));
        for (refused, expected) in [(false, (BATCH + 1, true)), (true, (200, false))] {
            let mut linux = Memory::default();
            if refused {
                linux.refuse(BATCH as u64, 105);
            }
            let applied = apply(&mut linux, &Observed::default(), &ours, &ops, || false).await;
            assert_eq!((applied.writes, applied.left), (expected.0 as u64, expected.1), "refused: {refused}");
        }
    }
}
