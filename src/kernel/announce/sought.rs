// SPDX-License-Identifier: Apache-2.0

//! Addresses whose MAC address is looked for.

use std::time::Duration;

use tokio::time::Instant;

use crate::kernel::liveness::Sight;

/// How long an address is asked for its MAC address.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address of which the kernel is asked for the MAC address.
pub(super) struct Sought {
    pub(super) until: Instant,
    pub(super) needed: Needed,
    /// How often it is to be announced.
    pub(super) times: u32,
}

/// Which entry of the neighbour table has the MAC address of a sought address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// None that is there: another link is behind the address, and the entry may be of the former.
    Later,
    /// One that the address has confirmed.
    Answer,
    /// The one to which the kernel would send.
    Entry,
}

impl Sought {
    pub(super) fn new(needed: Needed, times: u32, now: Instant) -> Self {
        Self { until: now + PATIENCE, needed, times }
    }
}

impl Needed {
    pub(super) fn accepts(self, sight: Sight) -> bool {
        match sight {
            Sight::Answered | Sight::Fixed => self != Self::Later,
            Sight::Unconfirmed => self == Self::Entry,
            Sight::Asked | Sight::GivenUp | Sight::Unknown => false,
        }
    }

    /// After the address has been asked.
    pub(super) fn asked(self) -> Self {
        if self == Self::Later { Self::Answer } else { self }
    }
}
