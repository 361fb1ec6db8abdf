// SPDX-License-Identifier: Apache-2.0

//! The arguments of a program that is configured by variables.

/// The meaning of the arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// There are none.
    Run,
    /// `--help`.
    Help,
    /// Another one.
    Unknown(String),
}

/// Reads the arguments of the process.
pub(crate) fn action() -> Action {
    match std::env::args_os().nth(1).map(|argument| argument.to_string_lossy().into_owned()).as_deref() {
        None => Action::Run,
        Some("--help" | "-help" | "-h") => Action::Help,
        Some(other) => Action::Unknown(other.to_owned()),
    }
}
