// SPDX-License-Identifier: Apache-2.0

//! Counts the work of a pass, and decides when the pass is over.
//!
//! A pass continues as long as its plans change: declarations that arrive meanwhile become part of
//! it, and so do changes that were not possible before others were made. The number of plans is
//! bounded, so that a stream of declarations cannot keep a pass from its end.

use super::drift::Reverted;
use crate::kernel::{Failure, Op, apply::Applied};

/// Number of attempts within a pass at the same changes: one, and one more on a new connection.
const ATTEMPTS: usize = 2;
/// Maximum number of plans of a pass.
pub(super) const ROUNDS: usize = 16;

/// The work of a pass so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Plans made or begun.
    rounds: usize,
    /// The last plan that was not left before its end.
    plan: Vec<Op>,
    /// Attempts at it.
    attempts: usize,
    reopened: bool,
    /// The last revision whose plan was not left before its end.
    pub(super) tried: Option<u64>,
    /// The changes of the first plan that revert changes of other programs.
    pub(super) drift: Reverted,
    pub(super) writes: u64,
    /// The changes of the last plan that failed.
    pub(super) failures: Vec<Failure>,
}

/// The end of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The desired state is reached.
    Reached,
    /// The kernel does not make the requested changes.
    Failing,
    /// More was declared meanwhile than one pass can process.
    Unfinished,
}

impl Progress {
    /// Whether nothing has been planned yet.
    pub(super) fn is_new(&self) -> bool {
        self.rounds == 0
    }

    /// Whether exactly this plan has been attempted, and was not left before its end.
    pub(super) fn was_tried(&self, left: &[Op]) -> bool {
        self.attempts > 0 && !left.is_empty() && self.plan == left
    }

    /// Whether and how the pass ends, given the remaining changes.
    pub(super) fn end(&mut self, left: &[Op]) -> Option<End> {
        let exhausted = self.attempts >= ATTEMPTS && self.plan == left;
        if left.is_empty() {
            self.failures.clear();
            Some(End::Reached)
        } else if exhausted || self.rounds >= ROUNDS {
            let failing = exhausted || !self.failures.is_empty();
            Some(if failing { End::Failing } else { End::Unfinished })
        } else {
            None
        }
    }

    /// Takes the outcome of the plan for a revision. True if a new connection should be tried: once
    /// in a pass.
    pub(super) fn take(&mut self, revision: u64, plan: Vec<Op>, applied: Applied) -> bool {
        self.rounds += 1;
        self.writes += applied.writes;
        self.failures = applied.failures;
        if applied.left {
            return false;
        }
        self.tried = Some(revision);
        self.attempts = if self.plan == plan { self.attempts + 1 } else { 1 };
        self.plan = plan;
        !self.failures.is_empty() && !std::mem::replace(&mut self.reopened, true)
    }
}
