// SPDX-License-Identifier: Apache-2.0

//! Judge from what the kernel knows of a neighbour whether it answers.
//!
//! A *round* is a look at every neighbour, and a question to each that is not being asked already. What a look shows is the outcome
//! of the round before.
//!
//! 1. A neighbour that has not answered for as many rounds in a row as there are probes is silent.
//! 2. A round that came late does not count against a neighbour: whoever was not asked in time, or not heard in time, is not to
//!    blame. The kernel asks by its own timers, so one that it has given up is silent even then.
//! 3. A silent neighbour answers again after two answers in a row.
//! 4. Each time that it fell silent in the last minute doubles the answers that are needed, up to what ten seconds have room for: one
//!    that comes and goes is left out until it stays.
//! 5. What was set by an administrator is not asked, and counts as an answer.

use std::time::Duration;

use tokio::time::Instant;

use super::Settings;

/// Answers in a row after which a silent neighbour counts again.
const ANSWERS: u32 = 2;
/// Longest time for which a neighbour that answers is kept out.
const LONGEST: Duration = Duration::from_secs(10);
/// Time without a silence after which one of them is forgiven.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Most silences that are remembered.
const MOST_SILENCES: u32 = 16;

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It has answered since it was asked.
    Answered,
    /// It is being asked and has not answered.
    Asked,
    /// An address is known that nobody has confirmed since.
    Unconfirmed,
    /// The kernel has asked as often as it does, without an answer.
    GivenUp,
    /// Nothing.
    Unknown,
    /// An administrator has set its address.
    Fixed,
}

/// Whether one neighbour answers.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    answers: bool,
    /// It has answered, or been found silent.
    known: bool,
    /// It has been asked in the round before.
    asked: bool,
    /// Rounds in a row without an answer.
    misses: u32,
    /// Rounds in a row with an answer.
    streak: u32,
    /// Silences that are not forgiven, and when the next one will be.
    silences: u32,
    forgiven: Instant,
}

impl Judge {
    /// A neighbour counts as one that answers until it is found not to.
    pub(super) fn new(now: Instant) -> Self {
        Self { answers: true, known: false, asked: false, misses: 0, streak: 0, silences: 0, forgiven: now }
    }

    /// Whether the neighbour answers.
    #[cfg(test)]
    pub(super) const fn answers(&self) -> bool {
        self.answers
    }

    /// Whether the neighbour answers, once that is found out.
    pub(super) fn verdict(&self) -> Option<bool> {
        self.known.then_some(self.answers)
    }

    /// It has not been asked for a while: the next look shows no outcome.
    pub(super) fn begin(&mut self) {
        self.asked = false;
        self.misses = 0;
        self.streak = 0;
    }

    /// Whether one more round without an answer makes it silent.
    pub(super) const fn is_doubtful(&self, settings: &Settings) -> bool {
        self.answers && self.misses + 1 >= settings.probes
    }

    /// Take the outcome of a round; true if the verdict changes.
    pub(super) fn take(&mut self, sight: Sight, on_time: bool, now: Instant, settings: &Settings) -> bool {
        let asked = std::mem::replace(&mut self.asked, true);
        match sight {
            Sight::Answered | Sight::Fixed => {
                self.known = true;
                self.misses = 0;
                self.streak = self.streak.saturating_add(1);
            }
            Sight::GivenUp if asked => self.miss(),
            _ if asked && on_time => self.miss(),
            _ => {}
        }
        if self.answers {
            self.forgive(now);
            self.fall_silent(now, settings)
        } else {
            self.come_back(now, settings)
        }
    }

    fn miss(&mut self) {
        self.streak = 0;
        self.misses = self.misses.saturating_add(1);
    }

    fn fall_silent(&mut self, now: Instant, settings: &Settings) -> bool {
        let silent = self.misses >= settings.probes;
        if silent {
            self.answers = false;
            self.known = true;
            self.silences = (self.silences + 1).min(MOST_SILENCES);
            self.forgiven = now + FORGIVEN;
        }
        silent
    }

    fn come_back(&mut self, now: Instant, settings: &Settings) -> bool {
        let back = self.streak >= self.needed(settings);
        if back {
            self.answers = true;
            self.forgiven = now + FORGIVEN;
        }
        back
    }

    /// Answers in a row that are needed, by rules 3 and 4.
    fn needed(&self, settings: &Settings) -> u32 {
        let room = LONGEST.as_millis() / settings.interval.as_millis().max(1);
        let most = u32::try_from(room).unwrap_or(u32::MAX).max(ANSWERS);
        ANSWERS.saturating_mul(1 << self.silences.saturating_sub(1)).min(most)
    }

    fn forgive(&mut self, now: Instant) {
        if self.silences > 0 && now >= self.forgiven {
            self.silences -= 1;
            self.forgiven = now + FORGIVEN;
        }
    }
}

#[cfg(test)]
mod tests;
