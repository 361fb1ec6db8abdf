// SPDX-License-Identifier: Apache-2.0

//! Decides from the kernel's neighbour entry whether a neighbour answers.
//!
//! A *round* reads the entry of every neighbour, and solicits each that is not being solicited
//! already. The entry that is read is the outcome of the previous round.
//!
//! 1. A neighbour that has not answered for as many rounds in a row as there are probes is silent.
//! 2. A late round does not count against a neighbour, because the neighbour may not have been
//!    solicited or read in time. The kernel solicits by its own timers, so a neighbour that it has
//!    given up is silent even then.
//! 3. A silent neighbour answers again after two answers in a row.
//! 4. Each time that it fell silent in the last minute doubles the number of answers that are
//!    needed, up to the number that fits into ten seconds: a neighbour that comes and goes is left
//!    out until it stays.
//! 5. An entry set by an administrator is not solicited, and counts as an answer.

use std::time::Duration;

use tokio::time::Instant;

use super::Settings;

/// Number of consecutive answers after which a silent neighbour counts again.
const MIN_ANSWERS: u32 = 2;
/// Longest time for which a neighbour that answers is left out.
const MAX_ABSENCE: Duration = Duration::from_secs(10);
/// Time without a silence after which the number of silences decreases by one.
const DECAY: Duration = Duration::from_secs(60);
/// Maximum number of silences that are counted.
const MAX_SILENCES: u32 = 16;

/// The kernel's knowledge of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It has answered since it was solicited.
    Answered,
    /// It is being solicited and has not answered.
    Asked,
    /// It has an address that has not been confirmed since.
    Unconfirmed,
    /// The kernel has sent all its solicitations without an answer.
    GivenUp,
    /// There is no entry.
    Unknown,
    /// An administrator has set its address.
    Fixed,
}

/// The state of one neighbour.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    answers: bool,
    /// It has answered, or been found silent.
    known: bool,
    /// It was solicited in the previous round.
    asked: bool,
    /// Rounds in a row without an answer.
    misses: u32,
    /// Rounds in a row with an answer.
    streak: u32,
    /// Number of silences, and when it next decreases.
    silences: u32,
    decays: Instant,
}

impl Judge {
    /// A neighbour counts as answering until it is found silent.
    pub(super) fn new(now: Instant) -> Self {
        Self { answers: true, known: false, asked: false, misses: 0, streak: 0, silences: 0, decays: now }
    }

    /// Whether the neighbour answers.
    #[cfg(test)]
    pub(super) const fn answers(&self) -> bool {
        self.answers
    }

    /// Whether the neighbour answers, once this is known.
    pub(super) fn verdict(&self) -> Option<bool> {
        self.known.then_some(self.answers)
    }

    /// Begins again after a time without probes: the next entry read is not an outcome.
    pub(super) fn begin(&mut self) {
        self.asked = false;
        self.misses = 0;
        self.streak = 0;
    }

    /// Whether one more round without an answer makes it silent.
    pub(super) const fn is_doubtful(&self, settings: &Settings) -> bool {
        self.answers && self.misses + 1 >= settings.probes
    }

    /// Takes the outcome of a round; true if the verdict changes.
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
            self.silences = (self.silences + 1).min(MAX_SILENCES);
            self.decays = now + DECAY;
        }
        silent
    }

    fn come_back(&mut self, now: Instant, settings: &Settings) -> bool {
        let back = self.streak >= self.needed(settings);
        if back {
            self.answers = true;
            self.decays = now + DECAY;
        }
        back
    }

    /// Number of consecutive answers needed, by rules 3 and 4.
    fn needed(&self, settings: &Settings) -> u32 {
        let room = MAX_ABSENCE.as_millis() / settings.interval.as_millis().max(1);
        let most = u32::try_from(room).unwrap_or(u32::MAX).max(MIN_ANSWERS);
        MIN_ANSWERS.saturating_mul(1 << self.silences.saturating_sub(1)).min(most)
    }

    fn forgive(&mut self, now: Instant) {
        if self.silences > 0 && now >= self.decays {
            self.silences -= 1;
            self.decays = now + DECAY;
        }
    }
}

#[cfg(test)]
mod tests;
