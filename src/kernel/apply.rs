// SPDX-License-Identifier: Apache-2.0

//! Make the changes of a plan, so that one that fails does not stop the others.
//!
//! Two kinds of changes depend on others: a link becomes a port only if all leak stops are in, and a VIP rule is removed only if
//! those that replace it are in. What is left out is planned again by the next pass.

mod isolate;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use self::isolate::{is_of_a_next_hop, isolate};
use super::{Action, Backend, Failure, Observed, Op, Ours, Refusal, rule::priority};

/// Changes that are made before a plan may be left.
const BATCH: usize = 64;

/// What became of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The plan was left before its end.
    pub(super) left: bool,
    /// Changes made.
    pub(super) writes: u64,
    /// Changes that failed.
    pub(super) failures: Vec<Failure>,
    /// Next hops that the kernel does not take into a route, and its answers.
    pub(super) refused: BTreeMap<IpAddr, String>,
}

/// Make the changes, in order. A plan is left before the VIP rules if a caller may wait to see what
/// was made (a target does not wait for thousands of rules), and after a batch if something else
/// has been declared (`outdated`), or has changed in the kernel: a next hop that goes or comes does
/// not wait either. As the order of a plan breaks nothing on the way, it may be left anywhere.
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
    /// Note a change that was refused, after trying what can be done without it.
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

/// A line for a change; at the default level not for each of thousands.
fn trace(op: &Op) {
    match is_bulk(op) {
        true => tracing::trace!(%op, "done"),
        false => tracing::debug!(%op, "done"),
    }
}

/// What others depend on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    LeakStop,
    VipRules,
}

/// Whether a change is one of many, none of which a caller waits for alone.
fn is_bulk(op: &Op) -> bool {
    match op {
        Op::AddRule(_) => provides(op) != Some(Ground::LeakStop),
        Op::DeleteRule(_) => true,
        _ => false,
    }
}

fn provides(op: &Op) -> Option<Ground> {
    match op {
        Op::AddRule(rule) if rule.priority == priority::LEAK_STOP && rule.action == Action::Blackhole => {
            Some(Ground::LeakStop)
        }
        Op::AddRule(_) => Some(Ground::VipRules),
        _ => None,
    }
}

fn depends_on(op: &Op) -> Option<Ground> {
    match op {
        Op::Attach(..) => Some(Ground::LeakStop),
        Op::DeleteRule(rule) if rule.priority != priority::LEAK_STOP || rule.action != Action::Blackhole => {
            Some(Ground::VipRules)
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
    async fn a_long_plan_is_left_between_batches_when_something_else_was_declared() {
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
    async fn a_plan_that_made_what_a_caller_waits_for_is_left_before_the_bulk() {
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
