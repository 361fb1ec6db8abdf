// SPDX-License-Identifier: Apache-2.0

//! Decides how to heal a connection.
//!
//! Repeating the Request on the same path keeps the link, its MAC address and all neighbours: a
//! restarted nsmgr accepts it as soon as its forwarder and endpoints have registered. Reselecting
//! closes first and makes a new link, so traffic is lost until it exists.
//! 1. It was reselected already, and the answer is outstanding: repeat. There is nothing more to
//!    close.
//! 2. The link is dead: reselect.
//! 3. The link is alive: repeat, however often that fails and regardless of the reports of hops.
//! 4. The link is not probed, and a hop reports that it is gone: reselect.
//! 5. The link is not probed, the endpoint is reported to be gone, and another will do: reselect.
//! 6. The link is not probed: repeat, and reselect after a number of refusals. Only an answer of a
//!    peer is a refusal. A peer that cannot be reached or does not answer would not answer a
//!    reselect either.

use tonic::Code;

use super::Verdict;
use crate::chain::{Error, Reason};

/// The way to heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Repeats the last Request on the same path.
    Again,
    /// Close, then request a new link.
    Reselect,
}

/// The result of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No peer answered.
    Unanswered,
    /// A peer refused.
    Refused,
}

impl Outcome {
    /// The outcome of an attempt that failed with this error.
    pub(crate) fn of(error: &Error) -> Self {
        match error.reason() {
            Reason::Status(status) => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unanswered,
                _ => Self::Refused,
            },
            _ => Self::Unanswered,
        }
    }
}

/// The state of a broken connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Whether traffic passes.
    pub verdict: Verdict,
    /// A hop reports that the link is gone.
    pub link_gone: bool,
    /// A hop reports that the endpoint is gone.
    pub endpoint_gone: bool,
    /// Number of Requests that peers refused since it broke.
    pub refusals: u32,
    /// It was reselected since it broke.
    pub reselected: bool,
}

/// Rules 1 to 6.
pub(crate) fn action(observation: &Observation, reselect_after: u32, keep_endpoint: bool) -> Action {
    match observation {
        Observation { reselected: true, .. } => Action::Again,
        Observation { verdict: Verdict::Dead, .. } => Action::Reselect,
        Observation { verdict: Verdict::Alive, .. } => Action::Again,
        Observation { link_gone: true, .. } => Action::Reselect,
        Observation { endpoint_gone: true, .. } if !keep_endpoint => Action::Reselect,
        Observation { refusals, .. } if *refusals >= reselect_after => Action::Reselect,
        Observation { .. } => Action::Again,
    }
}

impl Observation {
    /// Updates the state after a failed attempt.
    pub(crate) fn learn(&mut self, error: &Error) {
        self.refusals += u32::from(Outcome::of(error) == Outcome::Refused);
        if let Reason::Status(status) = error.reason() {
            let message = status.message().to_ascii_lowercase();
            self.link_gone |= message.contains("link not found");
            // NSM's forwarders: `network service endpoint NAME not found`.
            let endpoint = message.split_once("network service endpoint ").map(|(_, rest)| rest);
            self.endpoint_gone |= endpoint.is_some_and(|rest| rest.contains("not found"));
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn it_heals_by_the_table() {
        let s = |verdict, link_gone, refusals, reselected| Observation {
            verdict,
            link_gone,
            endpoint_gone: false,
            refusals,
            reselected,
        };
        use Action::*;
        use Verdict::{Alive, Dead, Unknown};
        // rule, verdict, link gone, refusals, reselected already, action
        let table = [
            ("1 reselected, dead", s(Dead, false, 0, true), Again),
            ("1 reselected, refused", s(Unknown, true, 99, true), Again),
            ("2 dead", s(Dead, false, 0, false), Reselect),
            ("3 alive", s(Alive, false, 0, false), Again),
            ("3 alive, refused often", s(Alive, false, 99, false), Again),
            ("3 alive, though a hop says that the link is gone", s(Alive, true, 1, false), Again),
            ("4 unknown, link gone", s(Unknown, true, 1, false), Reselect),
            ("6 unknown", s(Unknown, false, 0, false), Again),
            ("6 unknown, refused", s(Unknown, false, 5, false), Again),
            ("6 unknown, refused often", s(Unknown, false, 6, false), Reselect),
        ];
        for (rule, observation, expected) in table {
            assert_eq!(action(&observation, 6, false), expected, "{rule}");
        }
        let gone = |verdict| Observation { endpoint_gone: true, ..s(verdict, false, 1, false) };
        assert_eq!(action(&gone(Unknown), 6, false), Reselect, "5 another endpoint");
        assert_eq!(action(&gone(Unknown), 6, true), Again, "6 no other endpoint");
        assert_eq!(action(&gone(Alive), 6, false), Again, "3 alive");
    }

    #[test]
    fn an_endpoint_that_hops_do_not_find_no_longer_exists() {
        // message of a hop, whether it reports that the endpoint is gone
        for (message, gone) in [
            ("network service endpoint web-1 not found", true),
            ("cannot find: network service endpoint web-1@a.test not found: 0/3", true),
            ("network service endpoint candidates not found", true),
            ("no candidates found", false),
            ("failed to find link load-balan-x: Link not found", false),
        ] {
            let mut observation = Observation::default();
            observation.learn(&Status::unknown(message).into());
            assert_eq!(observation.endpoint_gone, gone, "{message}");
        }
    }

    #[test]
    fn only_an_answer_of_the_peer_is_a_refusal() {
        let gone = "failed to find link load-balan-x: Link not found";
        // error, refusals, link gone
        let table: [(Error, u32, bool); 6] = [
            (Status::unknown("no candidates found").into(), 1, false),
            (Status::unknown(gone).into(), 1, true),
            (Status::cancelled("h2 protocol error").into(), 0, false),
            (Status::deadline_exceeded("no answer").into(), 0, false),
            (Reason::Unavailable("cannot connect".into()).into(), 0, false),
            (Reason::Deadline.into(), 0, false),
        ];
        for (error, refusals, link_gone) in table {
            let mut observation = Observation::default();
            observation.learn(&error);
            assert_eq!((observation.refusals, observation.link_gone), (refusals, link_gone), "{error}");
        }
    }
}
