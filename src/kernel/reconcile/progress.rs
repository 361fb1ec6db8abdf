// SPDX-License-Identifier: Apache-2.0

//! Count what a pass has done, and decide when it is over.
//!
//! What is declared during a pass becomes part of it: it is attempted as often as what was declared before. So that a stream of
//! declarations cannot keep a pass from its end, the number of plans is bounded, too.

use crate::kernel::{Failure, Op, apply::Applied};

/// Attempts within a pass at what was declared: one, and one more on a fresh connection.
const ATTEMPTS: usize = 2;
/// Most plans of a pass.
pub(super) const ROUNDS: usize = 16;

/// What a pass has done so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Plans made or begun.
    rounds: usize,
    /// Attempts at the revision `tried`.
    attempts: usize,
    reopened: bool,
    /// The last revision whose plan was not left before its end.
    pub(super) tried: Option<u64>,
    /// Changes that the first look found necessary.
    pub(super) found: Option<usize>,
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
    /// Whether the pass is over, and how, given what is left to do for a revision.
    pub(super) fn end(&mut self, revision: u64, left: &[Op]) -> Option<End> {
        self.found.get_or_insert(left.len());
        let exhausted = self.tried == Some(revision) && self.attempts >= ATTEMPTS;
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
    pub(super) fn take(&mut self, revision: u64, applied: Applied) -> bool {
        self.rounds += 1;
        self.writes += applied.writes;
        self.failures = applied.failures;
        if applied.left {
            return false;
        }
        let again = self.tried.replace(revision) == Some(revision);
        self.attempts = if again { self.attempts + 1 } else { 1 };
        !self.failures.is_empty() && !std::mem::replace(&mut self.reopened, true)
    }
}
