// SPDX-License-Identifier: Apache-2.0

//! Addresses whose MAC addresses are being resolved.

use std::time::Duration;

use tokio::time::Instant;

use crate::kernel::liveness::Sight;

/// How long the MAC address of an address is solicited.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);

/// An address whose MAC address is being resolved.
pub(super) struct Sought {
    pub(super) until: Instant,
    pub(super) needed: Needed,
    /// Number of announcements to make.
    pub(super) times: u32,
}

/// The entry of the neighbour table that has the MAC address of a sought address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// Not the present one: another link is behind the address, and the entry may be that of the
    /// former link.
    Later,
    /// An entry that the address has confirmed.
    Confirmed,
    /// The entry to which the kernel would send.
    Entry,
}

impl Sought {
    pub(super) fn new(needed: Needed, times: u32, now: Instant) -> Self {
        Self { until: now + RESOLVE_TIMEOUT, needed, times }
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

    /// The needed entry after a solicitation.
    pub(super) fn asked(self) -> Self {
        if self == Self::Later { Self::Confirmed } else { self }
    }
}
