// SPDX-License-Identifier: Apache-2.0
//! Tracks the start: its current wait, and whether a restart could help.

use std::fmt;

/// A step of the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy::health) enum Progress {
    /// Something outside the process is missing, which a restart would not bring.
    Waits(String),
    /// A step inside the process, which ends soon unless something is wrong, with its last failure.
    Works(&'static str, Option<String>),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Waits(on) => write!(f, "waits on {on}"),
            Progress::Works(step, None) => write!(f, "works on {step}"),
            Progress::Works(step, Some(failure)) => write!(f, "works on {step}: {failure}"),
        }
    }
}

/// Progress of the start. It is over when the endpoint has served once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Pending { progress: Progress, late: bool },
    Over,
}

impl Default for Start {
    fn default() -> Self {
        Self::Pending { progress: Progress::Works("the start", None), late: false }
    }
}

impl Start {
    /// Returns whether anything has changed. A new step is not late yet.
    pub(super) fn advance(&mut self, next: Progress) -> bool {
        let step = self.working_on();
        let Self::Pending { progress, late } = self else { return false };
        let changed = *progress != next;
        *progress = next;
        let same_step = matches!(progress, Progress::Works(now, _) if step == Some(*now));
        *late &= same_step;
        changed
    }

    pub(super) fn pending(&self) -> Option<&Progress> {
        match self {
            Self::Pending { progress, .. } => Some(progress),
            Self::Over => None,
        }
    }

    pub(super) fn working_on(&self) -> Option<&'static str> {
        match self.pending() {
            Some(Progress::Works(step, _)) => Some(step),
            _ => None,
        }
    }

    /// Returns whether this is a change.
    pub(super) fn late(&mut self) -> bool {
        match self {
            Self::Pending { late, .. } => !std::mem::replace(late, true),
            Self::Over => false,
        }
    }

    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Pending { late: true, .. })
    }
}
