// SPDX-License-Identifier: Apache-2.0

//! Tests the rules, as a table and for any sequence of rounds.

use proptest::prelude::*;

use super::*;

const SETTINGS: Settings = Settings { interval: Duration::from_millis(150), probes: 6 };

/// A judge, and the time of its rounds.
struct Rounds {
    judge: Judge,
    now: Instant,
}

impl Rounds {
    fn new() -> Self {
        let now = Instant::now();
        Self { judge: Judge::new(now), now }
    }

    /// One round on time; the verdict after it.
    fn round(&mut self, sight: Sight) -> bool {
        self.take(sight, true)
    }

    fn take(&mut self, sight: Sight, on_time: bool) -> bool {
        self.now += SETTINGS.interval;
        let before = self.judge.answers();
        let changed = self.judge.take(sight, on_time, self.now, &SETTINGS);
        assert_eq!(changed, before != self.judge.answers());
        self.judge.answers()
    }

    /// Rounds until the verdict is `answers`.
    fn until(&mut self, answers: bool, sight: Sight) -> u32 {
        (1..1000).find(|_| self.round(sight) == answers).unwrap()
    }
}

use Sight::{Answered, Asked, Fixed, GivenUp, Unconfirmed, Unknown};

/// The result of one round, and whether the round was on time.
type Round = (Sight, bool);

#[test]
fn a_sequence_of_rounds_leads_to_the_verdict_of_the_table() {
    let late = |sight| (sight, false);
    let on_time = |sight| (sight, true);
    let first = [on_time(Unknown)];
    let six = [Asked; 6].map(on_time);
    let table: [(&str, Vec<Round>, bool); 9] = [
        ("the first look shows no outcome", vec![on_time(GivenUp)], true),
        ("five without an answer", [&first[..], &six[..5]].concat(), true),
        ("six without an answer", [&first[..], &six].concat(), false),
        ("an answer between", [&first[..], &six[..5], &[on_time(Answered)], &six[..5]].concat(), true),
        ("late ones do not count", [&first[..], &[late(Asked); 100]].concat(), true),
        (
            "late ones between do not help",
            [&first[..], &six[..3], &[late(Asked); 9], &six[3..]].concat(),
            false,
        ),
        ("given up counts even then", [&first[..], &[late(GivenUp); 6]].concat(), false),
        ("an address that nobody confirms", [&first[..], &[on_time(Unconfirmed); 6]].concat(), false),
        ("a fixed address", [&first[..], &[on_time(Fixed); 20]].concat(), true),
    ];
    for (what, rounds, answers) in table {
        let mut judge = Rounds::new();
        for (sight, on_time) in rounds {
            judge.take(sight, on_time);
        }
        assert_eq!(judge.judge.answers(), answers, "{what}");
    }
}

#[test]
fn a_silent_neighbour_answers_again_after_two_answers_in_a_row() {
    let mut rounds = Rounds::new();
    rounds.round(Unknown);
    assert_eq!(rounds.until(false, Asked), 6);
    assert!(!rounds.round(Answered) && !rounds.round(Asked) && !rounds.round(Answered));
    assert!(rounds.round(Answered));
}

#[test]
fn one_that_comes_and_goes_is_kept_out_for_longer_each_time() {
    let mut rounds = Rounds::new();
    rounds.round(Unknown);
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert_eq!(rounds.until(false, Asked), 6, "it falls silent as fast as ever");
        waits.push(rounds.until(true, Answered));
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 66, 66, 66], "66 rounds are ten seconds");
    for _ in 0..16 * 60_000 / 150 {
        rounds.round(Answered);
    }
    assert_eq!(
        (rounds.until(false, Asked), rounds.until(true, Answered)),
        (6, 2),
        "no silence counts any more"
    );
}

#[test]
fn doubt_begins_one_round_before_silence() {
    let mut rounds = Rounds::new();
    rounds.round(Unknown);
    for _ in 0..5 {
        assert!(!rounds.judge.is_doubtful(&SETTINGS));
        rounds.round(Asked);
    }
    assert!(rounds.judge.is_doubtful(&SETTINGS));
    rounds.round(Asked);
    assert!(!rounds.judge.is_doubtful(&SETTINGS), "it is silent");
}

fn sight() -> impl Strategy<Value = Sight> {
    prop::sample::select(vec![Answered, Asked, Unconfirmed, GivenUp, Unknown, Fixed])
}

fn is_answer(sight: Sight) -> bool {
    matches!(sight, Answered | Fixed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_verdict_follows_from_the_last_rounds(
        rounds in prop::collection::vec((sight(), any::<bool>()), 1..400)
    ) {
        let mut judge = Rounds::new();
        let mut seen: Vec<(Sight, bool)> = Vec::new();
        for (index, (sight, on_time)) in rounds.into_iter().enumerate() {
            let before = judge.judge.answers();
            let after = judge.take(sight, on_time);
            // The first read and late rounds without a final result are not counted.
            if index > 0 && (on_time || sight == GivenUp || is_answer(sight)) || is_answer(sight) {
                seen.push((sight, on_time));
            }
            let tail = |count: usize, fits: fn(Sight) -> bool| {
                seen.len() >= count && seen[seen.len() - count..].iter().all(|(sight, _)| fits(*sight))
            };
            if before && !after {
                prop_assert!(tail(6, |sight| !is_answer(sight)), "silent without six silent rounds: {:?}", seen);
            }
            if !before && after {
                prop_assert!(tail(2, is_answer), "back without two answers: {:?}", seen);
            }
            if before && after {
                prop_assert!(!tail(6, |sight| !is_answer(sight)), "six silent rounds, still answers: {:?}", seen);
            }
            if !before && !after {
                prop_assert!(!tail(67, is_answer), "kept out for more than ten seconds: {:?}", seen);
            }
        }
    }

    #[test]
    fn a_loss_of_one_in_fifty_rounds_never_makes_a_neighbour_silent(seed in any::<u64>()) {
        use rand::{Rng, SeedableRng, rngs::StdRng};
        let mut random = StdRng::seed_from_u64(seed);
        let mut judge = Rounds::new();
        for _ in 0..2_000 {
            let lost = random.random_range(0..50) == 0;
            prop_assert!(judge.round(if lost { Asked } else { Answered }), "five minutes");
        }
    }
}
