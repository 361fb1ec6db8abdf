// SPDX-License-Identifier: Apache-2.0
//! Draws a sequence of faults from a seed: the same seed gives the same sequence.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    run::faults::Act,
    world::{
        components::Component,
        foreign::Hand,
        mishaps::{END, Mishap},
    },
};

/// Maximum number of faults of one sequence; those that clash with an earlier one are not drawn
/// again.
const DRAWN: usize = 8;
/// Time in which all faults begin, in milliseconds.
const BEGIN: u64 = 6_000;
/// Shortest and longest fault, in milliseconds.
const LASTS: (u64, u64) = (200, 3_000);
/// Time between two faults of one subject.
const APART: Duration = Duration::from_millis(1_000);

/// A part of the world that has one fault at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Lb(usize),
    Target(usize),
    Proxy,
    Kernel,
    Of(Component),
}

/// A kind of fault.
struct ChaosFault {
    subject: Subject,
    begin: Act,
    end: Option<Act>,
    /// Subjects that must not have a fault when it begins and when it ends.
    needs: &'static [Subject],
}

const NSMGR: Subject = Subject::Of(Component::Nsmgr);
const CALLS: &[Subject] = &[
    NSMGR,
    Subject::Of(Component::Forwarder),
    Subject::Of(Component::Ipam),
    Subject::Of(Component::WorkloadApi),
    Subject::Proxy,
];

const fn lb(number: usize, mishap: Mishap) -> ChaosFault {
    ChaosFault {
        subject: Subject::Lb(number),
        begin: Act::LoseLb(number, mishap),
        end: Some(Act::ReturnLb(number)),
        needs: &[NSMGR, Subject::Of(Component::WorkloadApi)],
    }
}

const fn away(component: Component) -> ChaosFault {
    ChaosFault {
        subject: Subject::Of(component),
        begin: Act::Kill(component),
        end: Some(Act::Start(component)),
        needs: &[],
    }
}

const fn restart(begin: Act) -> ChaosFault {
    ChaosFault { subject: Subject::Proxy, begin, end: Some(Act::StartProxy), needs: &[] }
}

const fn relink(target: usize) -> ChaosFault {
    ChaosFault { subject: Subject::Target(target), begin: Act::Relink(target), end: None, needs: CALLS }
}

const fn meddle(hand: Hand) -> ChaosFault {
    ChaosFault { subject: Subject::Kernel, begin: Act::Meddle(hand), end: None, needs: &[Subject::Proxy] }
}

const CHAOS_FAULTS: &[ChaosFault] = &[
    lb(0, Mishap::Leaves),
    lb(0, Mishap::Silent),
    lb(0, Mishap::Hangs),
    lb(0, Mishap::Unlinked),
    lb(1, Mishap::Leaves),
    lb(1, Mishap::Silent),
    lb(1, Mishap::Hangs),
    lb(1, Mishap::Unlinked),
    restart(Act::KillProxy),
    restart(Act::EndProxy(END)),
    away(Component::Nsmgr),
    away(Component::Forwarder),
    away(Component::Ipam),
    away(Component::Nsp),
    away(Component::WorkloadApi),
    relink(0),
    relink(1),
    meddle(Hand::DeleteRules),
    meddle(Hand::ReleasePorts),
    meddle(Hand::RemoveAddresses),
    meddle(Hand::FlushRoutes),
];

/// A fault with its times, from the start of the sequence.
#[derive(Clone, Copy)]
struct Drawn {
    fault: &'static ChaosFault,
    begin: Duration,
    end: Duration,
}

impl Drawn {
    /// Whether a moment is within the fault or too close to it.
    fn touches(&self, moment: Duration) -> bool {
        (self.begin.saturating_sub(APART)..=self.end + APART).contains(&moment)
    }

    fn clashes(&self, other: &Self) -> bool {
        let same = self.fault.subject == other.fault.subject;
        let together = self.begin <= other.end + APART && other.begin <= self.end + APART;
        (same && together) || self.lacks(other) || other.lacks(self)
    }

    /// Whether it needs the subject of the other during that fault.
    fn lacks(&self, other: &Self) -> bool {
        let needed = self.fault.needs.contains(&other.fault.subject);
        needed && (other.touches(self.begin) || other.touches(self.end))
    }
}

/// The acts of a seed, with their times from the start, in order.
pub(super) fn draw(seed: u64) -> Vec<(Duration, Act)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut drawn: Vec<Drawn> = Vec::new();
    for _ in 0..DRAWN {
        let Some(fault) = CHAOS_FAULTS.choose(&mut random) else { break };
        let begin = Duration::from_millis(random.random_range(0..BEGIN));
        let lasts = Duration::from_millis(random.random_range(LASTS.0..LASTS.1));
        let end = if fault.end.is_some() { begin + lasts } else { begin };
        let next = Drawn { fault, begin, end };
        if !drawn.iter().any(|earlier| earlier.clashes(&next)) {
            drawn.push(next);
        }
    }
    let begins = drawn.iter().map(|drawn| (drawn.begin, drawn.fault.begin));
    let ends = drawn.iter().filter_map(|drawn| Some((drawn.end, drawn.fault.end?)));
    let mut acts: Vec<_> = begins.chain(ends).collect();
    acts.sort_by_key(|(at, _)| *at);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_seeds_differ() {
        assert_eq!(draw(7), draw(7));
        let distinct = (0..50).filter(|seed| draw(*seed) != draw(seed + 1)).count();
        assert_eq!(distinct, 50);
    }

    #[test]
    fn every_fault_begins_before_it_ends() {
        for seed in 0..500 {
            let acts = draw(seed);
            assert!(!acts.is_empty(), "seed {seed}");
            assert!(acts.is_sorted_by_key(|(at, _)| *at), "seed {seed}");
            let mut away = Vec::new();
            for (_, act) in acts {
                let begins = CHAOS_FAULTS.iter().find(|fault| fault.begin == act && fault.end.is_some());
                if let Some(fault) = begins {
                    assert!(!away.contains(&fault.end), "{act:?} twice in seed {seed}");
                    away.push(fault.end);
                } else {
                    away.retain(|end| *end != Some(act));
                }
            }
            assert!(away.is_empty(), "{away:?} is left of seed {seed}");
        }
    }
}
