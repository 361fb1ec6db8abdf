// SPDX-License-Identifier: Apache-2.0

//! Decide how to heal a connection.
//!
//! Asking again on the same path keeps the link, its MAC and all neighbours: a restarted nsmgr accepts it as soon as its forwarder and
//! endpoints have registered. Reselecting closes first and makes a new link, so traffic is lost until it is there.
//! 1. It was reselected already, and the answer is outstanding: ask again. There is nothing more to close.
//! 2. Traffic is known not to pass: reselect.
//! 3. A hop says that the link is gone: reselect.
//! 4. Traffic is known to pass: ask again, however often that fails.
//! 5. Nobody knows: ask again, and reselect after so many refusals. Only what a peer says is a refusal. A peer that cannot be reached
//!    or does not answer would not answer a reselect either.

use tonic::Code;

use crate::chain::{Error, Reason};

/// How to heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Repeat the last Request on the same path.
    Again,
    /// Close, then request a new link to the same endpoint.
    Reselect,
}

/// What is known of a broken connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symptoms {
    /// Whether traffic passes; `None` if nobody looks.
    pub alive: Option<bool>,
    /// A hop says that the link is gone.
    pub link_gone: bool,
    /// Requests that peers refused since it broke.
    pub refusals: u32,
    /// It was reselected since it broke.
    pub reselected: bool,
}

/// Rules 1 to 5.
pub fn remedy(symptoms: &Symptoms, reselect_after: u32) -> Remedy {
    match symptoms {
        Symptoms { reselected: true, .. } => Remedy::Again,
        Symptoms { alive: Some(false), .. } | Symptoms { link_gone: true, .. } => Remedy::Reselect,
        Symptoms { alive: Some(true), .. } => Remedy::Again,
        Symptoms { alive: None, refusals, .. } if *refusals >= reselect_after => Remedy::Reselect,
        Symptoms { alive: None, .. } => Remedy::Again,
    }
}

impl Symptoms {
    /// Learn from a failed attempt.
    pub fn learn(&mut self, error: &Error) {
        let Reason::Status(status) = error.reason() else { return };
        let silent = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
        self.refusals += u32::from(!silent.contains(&status.code()));
        self.link_gone |= status.message().to_ascii_lowercase().contains("link not found");
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn it_heals_by_the_table() {
        let s = |alive, link_gone, refusals, reselected| Symptoms { alive, link_gone, refusals, reselected };
        use Remedy::*;
        // rule, alive, link gone, refusals, reselected already, remedy
        #[rustfmt::skip]
        let table = [
            ("1 reselected, dead", s(Some(false), false, 0, true), Again),
            ("1 reselected, refused", s(None, true, 99, true), Again),
            ("2 dead", s(Some(false), false, 0, false), Reselect),
            ("3 link gone", s(None, true, 1, false), Reselect),
            ("3 link gone though traffic passes", s(Some(true), true, 1, false), Reselect),
            ("4 alive", s(Some(true), false, 0, false), Again),
            ("4 alive, refused often", s(Some(true), false, 99, false), Again),
            ("5 unknown", s(None, false, 0, false), Again),
            ("5 unknown, refused", s(None, false, 5, false), Again),
            ("5 unknown, refused often", s(None, false, 6, false), Reselect),
        ];
        for (rule, symptoms, expected) in table {
            assert_eq!(remedy(&symptoms, 6), expected, "{rule}");
        }
    }

    #[test]
    fn only_what_a_peer_says_is_a_refusal() {
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
            let mut symptoms = Symptoms::default();
            symptoms.learn(&error);
            assert_eq!((symptoms.refusals, symptoms.link_gone), (refusals, link_gone), "{error}");
        }
    }
}
