// SPDX-License-Identifier: Apache-2.0
//! Derive the health of every service name from the state of four parts and the progress of the start.
//!
//! | name | SERVING if |
//! | --- | --- |
//! | `IPAMCli`, `NSPCli`, `NSMEndpoint`, `Egress` | that part is |
//! | `Readiness` | all four are |
//! | `Liveness` | `NSMEndpoint` is, or the start still waits within its patience |
//! | the empty name, and NSM's own names of an endpoint's services | always: the server answers |

use std::fmt;

use crate::transport::server;

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

/// Name of the aggregate that a readiness probe asks for.
pub const READINESS: &str = "Readiness";
/// Name of the aggregate that a liveness probe asks for.
pub const LIVENESS: &str = "Liveness";
/// Name that a startup probe asks for: the server itself.
pub const SERVER: &str = "";

/// Whether a service name is healthy, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the answer is SERVING.
    pub serving: bool,
    /// Why it is as it is; may be empty.
    pub reason: String,
}

/// The state of all parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    parts: [Verdict; 4],
    start: Start,
}

/// Progress of the start. It is over when the endpoint has served once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    Waiting { on: String, patient: bool },
    Over,
}

impl Default for Board {
    fn default() -> Self {
        let parts = [(); 4].map(|()| Verdict { serving: false, reason: "not started".into() });
        Self { parts, start: Start::Waiting { on: "start".into(), patient: true } }
    }
}

impl Board {
    /// Set the state of a part; returns whether SERVING changed.
    pub(super) fn set(&mut self, part: Part, serving: bool, reason: String) -> bool {
        if part == Part::Endpoint && serving {
            self.start = Start::Over;
        }
        let before = std::mem::replace(&mut self.parts[part as usize], Verdict { serving, reason });
        before.serving != serving
    }

    /// Name what the start waits on; returns whether that is new.
    pub(super) fn waits_on(&mut self, what: &str) -> bool {
        match &mut self.start {
            Start::Waiting { on, .. } if on != what => {
                what.clone_into(on);
                true
            }
            _ => false,
        }
    }

    /// End the patience with the start; returns whether Liveness depended on it.
    pub(super) fn lose_patience(&mut self) -> bool {
        match &mut self.start {
            Start::Waiting { patient, .. } => std::mem::replace(patient, false),
            Start::Over => false,
        }
    }

    /// The state of a part.
    pub fn part(&self, part: Part) -> &Verdict {
        &self.parts[part as usize]
    }

    /// The health of a service name; `None` if there is no such service.
    pub fn of(&self, service: &str) -> Option<Verdict> {
        if let Some(part) = Part::ALL.into_iter().find(|part| part.name() == service) {
            return Some(self.part(part).clone());
        }
        match service {
            name if name == SERVER || server::NAMES.contains(&name) => {
                Some(Verdict { serving: true, reason: String::new() })
            }
            READINESS => {
                let serving = self.parts.iter().all(|part| part.serving);
                Some(Verdict { serving, reason: self.to_string() })
            }
            LIVENESS => Some(self.liveness()),
            _ => None,
        }
    }

    fn liveness(&self) -> Verdict {
        let endpoint = self.part(Part::Endpoint);
        match &self.start {
            Start::Waiting { on, patient } => Verdict { serving: *patient, reason: format!("waits on {on}") },
            Start::Over => endpoint.clone(),
        }
    }
}

/// The parts that are not serving, with their reasons; empty if all are.
impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Start::Waiting { on, .. } = &self.start {
            write!(f, "start: waits on {on}; ")?;
        }
        let mut separator = "";
        for part in Part::ALL.into_iter().filter(|part| !self.part(*part).serving) {
            write!(f, "{separator}{}: {}", part.name(), self.part(part).reason)?;
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(board: &Board, name: &str) -> bool {
        board.of(name).unwrap().serving
    }

    #[test]
    fn readiness_is_all_four_and_liveness_the_endpoint() {
        for pattern in 0..16u8 {
            let mut board = Board::default();
            board.set(Part::Endpoint, true, String::new());
            for (bit, part) in Part::ALL.into_iter().enumerate() {
                board.set(part, pattern & (1 << bit) != 0, "why".into());
            }
            assert_eq!(serving(&board, READINESS), pattern == 15, "{pattern:04b}");
            assert_eq!(serving(&board, LIVENESS), pattern & 4 != 0, "{pattern:04b}");
            assert!(serving(&board, SERVER));
            for (bit, part) in Part::ALL.into_iter().enumerate() {
                assert_eq!(serving(&board, part.name()), pattern & (1 << bit) != 0);
            }
        }
    }

    #[test]
    fn every_part_starts_not_serving_and_only_the_seven_names_are_known() {
        let board = Board::default();
        for name in ["IPAMCli", "NSPCli", "NSMEndpoint", "Egress", "Readiness"] {
            assert!(!serving(&board, name), "{name}");
        }
        for unknown in ["liveness", "Startup", "egress", "x"] {
            assert_eq!(board.of(unknown), None);
        }
    }

    #[test]
    fn liveness_is_patient_with_a_start_that_waits_and_says_on_what() {
        let mut board = Board::default();
        assert!(board.waits_on("IPAM"));
        assert!(!board.waits_on("IPAM"));
        assert_eq!(board.of(LIVENESS), Some(Verdict { serving: true, reason: "waits on IPAM".into() }));
        assert!(board.lose_patience());
        assert!(!serving(&board, LIVENESS));
        board.set(Part::Endpoint, true, String::new());
        assert!(serving(&board, LIVENESS));
    }

    #[test]
    fn once_the_endpoint_has_served_patience_is_over() {
        let mut board = Board::default();
        board.set(Part::Endpoint, true, String::new());
        assert!(!board.waits_on("IPAM"));
        board.set(Part::Endpoint, false, "connection refused".into());
        assert_eq!(board.of(LIVENESS), Some(Verdict { serving: false, reason: "connection refused".into() }));
        assert!(!board.lose_patience());
    }

    #[test]
    fn a_readiness_that_fails_names_every_part_that_does() {
        let mut board = Board::default();
        board.set(Part::Endpoint, true, String::new());
        board.set(Part::Ipam, true, String::new());
        board.set(Part::Egress, false, "no load balancer".into());
        let reason = board.of(READINESS).unwrap().reason;
        assert_eq!(reason, "NSPCli: not started; Egress: no load balancer");
    }
}
