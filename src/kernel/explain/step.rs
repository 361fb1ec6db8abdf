// SPDX-License-Identifier: Apache-2.0

//! The steps of a walk, and its outcome.

use serde::Serialize;

use crate::kernel::Statistics;

/// The kinds of objects that a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StepKind {
    /// The bridge.
    Bridge,
    /// The sysctls of forwarding.
    Sysctl,
    /// A policy rule.
    Rule,
    /// A routing table.
    Table,
    /// A route.
    Route,
    /// A next hop of a route.
    NextHop,
    /// An entry of the neighbour table.
    Neighbour,
    /// An entry of the bridge's forwarding database.
    Fdb,
    /// A port of the bridge.
    Port,
}

impl StepKind {
    /// Its name in a table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            StepKind::Bridge => "bridge",
            StepKind::Sysctl => "sysctl",
            StepKind::Rule => "rule",
            StepKind::Table => "table",
            StepKind::Route => "route",
            StepKind::NextHop => "next hop",
            StepKind::Neighbour => "neighbour",
            StepKind::Fdb => "fdb",
            StepKind::Port => "port",
        }
    }
}

/// An object that a packet meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Step {
    /// Its kind.
    pub(crate) kind: StepKind,
    /// The object, as Linux's tools print it.
    pub(crate) object: String,
    /// A remark that does not end the walk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// The reason why a packet is dropped here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dies: Option<String>,
    /// Counters of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) counters: Option<Statistics>,
}

impl Step {
    pub(super) fn new(kind: StepKind, object: impl Into<String>) -> Self {
        Self { kind, object: object.into(), note: None, dies: None, counters: None }
    }

    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    pub(super) fn dies(self, why: impl Into<String>) -> Self {
        Self { dies: Some(why.into()), ..self }
    }
}

/// The steps over one next hop or to one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Branch {
    /// The steps, up to the one where a packet is dropped.
    pub(crate) steps: Vec<Step>,
}

impl Branch {
    fn passes(&self) -> bool {
        self.steps.iter().all(|step| step.dies.is_none())
    }
}

/// The end of a walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// A packet passes on every branch.
    Passes,
    /// A packet is dropped on some branches.
    Partly {
        /// Branches on which it passes.
        passing: usize,
        /// All branches.
        of: usize,
    },
    /// Every packet is dropped.
    Dies,
}

/// A packet's walk in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Walk {
    /// The direction, with the address.
    pub(crate) title: String,
    /// The steps that all branches share.
    pub(crate) steps: Vec<Step>,
    /// The branches, of which each flow takes one.
    pub(crate) branches: Vec<Branch>,
    /// The end of the walk.
    pub(crate) outcome: Outcome,
}

impl Walk {
    pub(super) fn new(title: String, steps: Vec<Step>, branches: Vec<Branch>) -> Self {
        let passing = branches.iter().filter(|branch| branch.passes()).count();
        let outcome = match (steps.iter().all(|step| step.dies.is_none()), branches.len()) {
            (false, _) => Outcome::Dies,
            (true, of) if passing == of => Outcome::Passes,
            (true, _) if passing == 0 => Outcome::Dies,
            (true, of) => Outcome::Partly { passing, of },
        };
        Self { title, steps, branches, outcome }
    }

    /// The reason at the first step that drops packets.
    #[cfg(test)]
    pub(crate) fn cause(&self) -> Option<&str> {
        let steps = self.steps.iter().chain(self.branches.iter().flat_map(|branch| &branch.steps));
        steps.into_iter().find_map(|step| step.dies.as_deref())
    }
}
