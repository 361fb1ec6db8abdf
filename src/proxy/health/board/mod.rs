// SPDX-License-Identifier: Apache-2.0
//! Derives the health of every service name from the state of four parts and the progress of the
//! start.
//!
//! | name | SERVING if |
//! | --- | --- |
//! | `IPAMCli`, `NSPCli`, `NSMEndpoint`, `Egress` | that part is |
//! | `Readiness` | all four are |
//! | `Liveness` | `NSMEndpoint` is, or lacks something that a restart would not bring; the start waits, or is not late |
//! | the empty name, and NSM's own names of an endpoint's services | always: the server answers |
//!
//! A part that serves may be *degraded*: it works, but without something that it should have.

mod degraded;
mod start;
#[cfg(test)]
mod tests;

use std::{fmt, mem};

use self::start::Start;
pub(super) use self::{degraded::Changes, start::Progress};
use crate::{proxy::health::board::degraded::Degraded, server};

/// A part of the proxy whose health is reported under its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The channel to IPAM is connected.
    Ipam,
    /// The channel to NSP is connected.
    Nsp,
    /// The own endpoint answers a health check over mutual TLS.
    Endpoint,
    /// A next hop is installed and verified.
    Egress,
}

impl Part {
    /// All parts, in the order in which reasons are listed.
    pub const ALL: [Part; 4] = [Part::Ipam, Part::Nsp, Part::Endpoint, Part::Egress];

    /// The service name of the part.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Ipam => "IPAMCli",
            Part::Nsp => "NSPCli",
            Part::Endpoint => "NSMEndpoint",
            Part::Egress => "Egress",
        }
    }
}

/// Name of the aggregate that readiness probes query.
pub const READINESS: &str = "Readiness";
/// Name of the aggregate that liveness probes query.
pub(crate) const LIVENESS: &str = "Liveness";
/// Name that startup probes query: the server itself.
pub const SERVER: &str = "";

/// Whether a service name is healthy, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the answer is SERVING.
    pub serving: bool,
    /// The reason of the answer; never empty.
    pub reason: String,
    /// Everything that is missing, whether it serves or not.
    pub degraded: Vec<String>,
}

/// The reason, then each degradation.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        self.degraded.iter().try_for_each(|what| write!(f, "; degraded: {what}"))
    }
}

/// The state of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) serving: bool,
    pub(super) reason: String,
    /// It does not serve because something outside the process is missing, which a restart would
    /// not bring.
    pub(super) outside: bool,
}

/// The state of all parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    parts: [State; 4],
    degraded: [Degraded; 4],
    start: Start,
}

impl Default for Board {
    fn default() -> Self {
        let parts = [(); 4].map(|()| State { serving: false, reason: "not started".into(), outside: false });
        Self { parts, degraded: Default::default(), start: Start::default() }
    }
}

impl Board {
    /// Sets the state of a part; returns the previous state if it differs.
    pub(super) fn set(&mut self, part: Part, mut state: State) -> Option<State> {
        if part == Part::Endpoint && state.serving {
            self.start = Start::Over;
        }
        if state.reason.trim().is_empty() {
            state.reason = if state.serving { "serves" } else { "does not serve" }.into();
        }
        let now = &mut self.parts[part as usize];
        (*now != state).then(|| mem::replace(now, state))
    }

    /// Replaces the degradations that one source has found in a part; returns those that begin and
    /// those that end.
    pub(super) fn degrade(&mut self, part: Part, source: &'static str, found: Vec<String>) -> Changes {
        self.degraded[part as usize].replace(source, found)
    }

    /// Records the progress of the start; returns whether it has changed.
    pub(super) fn progress(&mut self, progress: Progress) -> bool {
        self.start.advance(progress)
    }

    /// The current step of the start with its last failure; `None` when it is over.
    pub(crate) fn starting(&self) -> Option<String> {
        self.start.pending().map(ToString::to_string)
    }

    /// The current step of the start inside the process, if it waits for nothing.
    pub(super) fn working_on(&self) -> Option<&'static str> {
        self.start.working_on()
    }

    /// Records that the current step of the start is late; returns whether that changes Liveness.
    pub(super) fn late(&mut self) -> bool {
        self.start.late()
    }

    /// The state of a part.
    pub fn part(&self, part: Part) -> Verdict {
        let State { serving, reason, .. } = self.parts[part as usize].clone();
        Verdict { serving, reason, degraded: self.degraded[part as usize].all() }
    }

    /// The health of a service name; `None` if there is no such service.
    pub fn of(&self, service: &str) -> Option<Verdict> {
        if let Some(part) = Part::ALL.into_iter().find(|part| part.name() == service) {
            return Some(self.part(part));
        }
        match service {
            name if name == SERVER || server::NAMES.contains(&name) => {
                Some(Verdict { serving: true, reason: "the server answers".into(), degraded: Vec::new() })
            }
            READINESS => Some(self.readiness()),
            LIVENESS => Some(self.liveness()),
            _ => None,
        }
    }

    fn readiness(&self) -> Verdict {
        let start = self.start.pending().map(|progress| format!("start: {progress}"));
        let failing = Part::ALL.into_iter().filter(|part| !self.parts[*part as usize].serving);
        let failing = failing.map(|part| format!("{}: {}", part.name(), self.parts[part as usize].reason));
        let failing: Vec<_> = start.into_iter().chain(failing).collect();
        let serving = self.parts.iter().all(|part| part.serving);
        let reason = if serving { "every part serves".to_owned() } else { failing.join("; ") };
        let degraded = Part::ALL.into_iter().flat_map(|part| {
            self.degraded[part as usize].all().into_iter().map(move |what| format!("{}: {what}", part.name()))
        });
        Verdict { serving, reason, degraded: degraded.collect() }
    }

    fn liveness(&self) -> Verdict {
        if let Some(progress) = self.start.pending() {
            let reason = progress.to_string();
            return Verdict { serving: !self.start.is_late(), reason, degraded: Vec::new() };
        }
        let endpoint = &self.parts[Part::Endpoint as usize];
        let serving = endpoint.serving || endpoint.outside;
        Verdict { serving, reason: endpoint.reason.clone(), degraded: Vec::new() }
    }
}
