// SPDX-License-Identifier: Apache-2.0

//! The names of a program.

/// A program, by the names under which it logs and exports spans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// Its crate, whose events and spans are logged and exported like those of this crate.
    pub(crate) own: &'static str,
    /// Name of the service in every line of the log.
    pub(crate) logged: &'static str,
    /// `service.name` of its spans.
    pub(crate) traced: &'static str,
    /// Its version, if it is logged.
    pub(crate) version: Option<&'static str>,
}

impl Program {
    /// A program that has the name of its crate everywhere.
    pub(crate) const fn new(own: &'static str) -> Self {
        Self { own, logged: own, traced: own, version: None }
    }
}
