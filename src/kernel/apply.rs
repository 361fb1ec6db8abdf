// SPDX-License-Identifier: Apache-2.0

//! Make the changes of a plan, so that one that fails does not stop the others.
//!
//! Two kinds of changes depend on others: a link becomes a port only if all leak stops are in, and a VIP rule is removed only if
//! those that replace it are in. What is left out is planned again by the next pass.

use std::collections::BTreeSet;

use super::{Action, Backend, Failure, Op, Ours, rule::priority};

/// What became of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Changes made.
    pub(super) writes: u64,
    /// Changes that failed.
    pub(super) failures: Vec<Failure>,
}

/// Make the changes, in order.
pub(super) async fn apply<B: Backend>(backend: &mut B, ours: &Ours, ops: &[Op]) -> Applied {
    let mut applied = Applied::default();
    let mut missing = BTreeSet::new();
    for op in ops {
        if depends_on(op).is_some_and(|needed| missing.contains(&needed)) {
            continue;
        }
        match backend.apply(ours, op).await {
            Ok(()) => {
                tracing::debug!(%op, "done");
                applied.writes += 1;
            }
            Err(refusal) => {
                tracing::warn!(%op, %refusal, "refused");
                missing.extend(provides(op));
                applied.failures.push(Failure { op: Some(op.clone()), refusal });
            }
        }
    }
    applied
}

/// What others depend on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    LeakStop,
    VipRules,
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
