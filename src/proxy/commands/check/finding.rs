// SPDX-License-Identifier: Apache-2.0

//! The result of a check.

use serde::Serialize;

/// How a check has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::proxy::commands) enum State {
    /// Nothing is missing.
    Ok,
    /// The proxy works, with less than it could have.
    Warning,
    /// The proxy does not work, or not fully.
    Failed,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::proxy::commands) struct Finding {
    /// The thing that is checked.
    pub(super) check: String,
    /// The end of the check.
    pub(super) state: State,
    /// The state of the thing.
    pub(super) found: String,
    /// The function that fails; empty if none does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) breaks: String,
    /// The line that repairs it; empty if nothing is broken.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) repair: String,
}

impl Finding {
    pub(super) fn ok(check: &str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { check: check.into(), state: State::Ok, found, breaks: String::new(), repair: String::new() }
    }

    pub(super) fn warning(
        check: &str,
        found: impl Into<String>,
        breaks: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        Self { state: State::Warning, ..Self::failed(check, found, breaks, repair) }
    }

    pub(super) fn failed(
        check: &str,
        found: impl Into<String>,
        breaks: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        let breaks = breaks.into();
        let repair = repair.into();
        Self { check: check.into(), state: State::Failed, found: found.into(), breaks, repair }
    }
}
