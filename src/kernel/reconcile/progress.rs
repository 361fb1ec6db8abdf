// SPDX-License-Identifier: Apache-2.0

//! Count what a pass has done, and decide when it is over.
//!
//! A pass goes on as long as its plans change: what is declared meanwhile becomes part of it, and so does what was not possible before
//! something else was made. So that a stream of declarations cannot keep a pass from its end, the number of plans is bounded.

use crate::kernel::{Failure, Op, apply::Applied};

/// Attempts within a pass at the same changes: one, and one more on a fresh connection.
const ATTEMPTS: usize = 2;
/// Most plans of a pass.
pub(super) const ROUNDS: usize = 16;

/// What a pass has done so far.
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
    /// Changes of the first plan that take back what others have done.
    pub(super) drift: usize,
    pub(super) writes: u64,
    /// What the last plan could not do.
    pub(super) failures: Vec<Failure>,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All is as desired.
    Reached,
    /// The kernel does not do what it is asked for.
    Failing,
    /// More was declared meanwhile than one pass takes.
    Unfinished,
}

impl Progress {
    /// Whether nothing has been planned yet.
    pub(super) fn is_new(&self) -> bool {
        self.rounds == 0
    }

    /// Whether exactly this was to be done before, and was not left.
    pub(super) fn was_tried(&self, left: &[Op]) -> bool {
        self.attempts > 0 && !left.is_empty() && self.plan == left
    }

    /// Whether the pass is over, and how, given what is left to do.
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

    /// Take what became of the plan for a revision. True if a fresh connection should be tried: once in a pass.
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
