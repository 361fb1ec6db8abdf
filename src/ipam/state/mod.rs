// SPDX-License-Identifier: Apache-2.0

//! The state machine of one lease: which call to make to the address service, and when.
//!
//! ```text
//!        acquire          Allocate ok        last holder gone            Release ok
//!   Free ───────▶ Wanted ────────────▶ Held ─────────────────▶ Releasing ──────────▶ Free
//!                   ▲                   ▲                         │   │
//!                   │                   └─ acquire before Release ┘   │
//!                   └─────────────────── acquire during Release ──────┘
//! ```
//! 1. At most one call is made for a name at a time. Later decisions wait until it has ended: an
//!    Allocate never overtakes a Release of the same name.
//! 2. Wanted: Allocate, one call per family for all callers. Held: Renew when due. Releasing:
//!    Release when due.
//! 3. A lease that is held, or whose Release has not begun, is granted without a call.
//! 4. An Allocate that succeeds when no caller is left is kept as if its last holder had just gone.
//! 5. An Allocate that fails is rolled back like a lease whose last holder has just gone, unless
//!    nothing can have been allocated since the last Release. The delay leaves a previous holder of
//!    the name, known to the address service only, time to return.
//! 6. From the start of a Release its addresses are not ours. A Release that fails is repeated,
//!    unless a caller waits for the lease.
//! 7. A Release that failed may still take effect later. The lease that follows is *doubtful*:
//!    renew it early.
//! 8. A Renew that returns other addresses changes nothing for the holders; the next caller gets
//!    the new ones.
//! 9. A Renew that fails is repeated; the lease stays held.
//! 10. A lease of an earlier process is granted like one whose Release has not begun, and is
//!     *unverified* until a Renew
//!     has succeeded.

use ipnet::IpNet;
use tokio::time::Instant;

use super::AllocateError;
use crate::api::{Dual, Family};

/// The desired state of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Wanted,
    Held { holders: usize },
    Releasing { at: Instant },
}

/// A call to the address service, for all families of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Allocate,
    Renew,
    Release,
}

/// The answer of each family.
pub(super) type Answers = Dual<Result<IpNet, AllocateError>>;

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    call: Option<Call>,
    addresses: Option<Dual<IpNet>>,
    moved: Option<Dual<IpNet>>,
    renew_at: Option<Instant>,
    /// Something may be allocated under the name.
    owed: bool,
    /// A Release that failed may still take effect.
    pub(super) doubtful: bool,
    /// The addresses are those of an earlier process, and the service has not confirmed them yet.
    unverified: bool,
}

impl State {
    pub(super) const FREE: Self = Self {
        phase: Phase::Free,
        call: None,
        addresses: None,
        moved: None,
        renew_at: None,
        owed: false,
        doubtful: false,
        unverified: false,
    };

    /// A lease that an earlier process held. It has to be acquired, or forgotten.
    pub(super) fn restored(addresses: Dual<IpNet>, now: Instant) -> Self {
        Self { addresses: Some(addresses), renew_at: Some(now), owed: true, unverified: true, ..Self::FREE }
    }

    /// Whether nothing needs to be remembered.
    pub(super) fn is_free(&self) -> bool {
        self.phase == Phase::Free && self.call.is_none()
    }

    /// The addresses in use.
    pub(super) fn addresses(&self) -> Option<Dual<IpNet>> {
        self.addresses
    }

    /// Whether it is held with addresses that the service has not confirmed.
    pub(super) fn is_unverified(&self) -> bool {
        self.unverified && matches!(self.phase, Phase::Held { .. })
    }

    /// The addresses to record: those of a lease that is held, or whose Release has not begun.
    pub(super) fn recorded(&self) -> Option<Dual<IpNet>> {
        self.addresses.filter(|_| matches!(self.phase, Phase::Held { .. } | Phase::Releasing { .. }))
    }

    /// The addresses that a renewal returned in place of those held.
    pub(super) fn moved(&self) -> Option<Dual<IpNet>> {
        self.moved
    }

    /// Handles a caller. Some: granted, with one holder more. None: the caller has to wait for
    /// `allocated`.
    pub(super) fn acquire(&mut self) -> Option<Dual<IpNet>> {
        let Some(addresses) = self.moved.take().or(self.addresses) else {
            self.phase = Phase::Wanted;
            return None;
        };
        let holders = if let Phase::Held { holders } = self.phase { holders } else { 0 };
        self.phase = Phase::Held { holders: holders + 1 };
        self.addresses = Some(addresses);
        self.addresses
    }

    /// Handles the end of a holder.
    pub(super) fn dropped(&mut self, release_at: Instant) {
        if let Phase::Held { holders } = self.phase {
            self.phase = match holders.saturating_sub(1) {
                0 => Phase::Releasing { at: release_at },
                holders => Phase::Held { holders },
            };
        }
    }

    /// The call to make now, if any. It counts as made until one of the next three is called.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Call> {
        let due = self.phase == Phase::Wanted || self.wake().is_some_and(|at| at <= now);
        if self.call.is_some() || !due {
            return None;
        }
        self.call = match self.phase {
            Phase::Free => None,
            Phase::Wanted => Some(Call::Allocate),
            Phase::Held { .. } => Some(Call::Renew),
            Phase::Releasing { .. } => {
                (self.addresses, self.moved) = (None, None);
                Some(Call::Release)
            }
        };
        self.call
    }

    /// When `begin` has to be called again, if nothing happens before.
    pub(super) fn wake(&self) -> Option<Instant> {
        match self.phase {
            _ if self.call.is_some() => None,
            Phase::Free | Phase::Wanted => None,
            Phase::Held { .. } => self.renew_at,
            Phase::Releasing { at } => Some(at),
        }
    }

    /// Handles the end of an Allocate, with this many callers waiting. Ok: each of them is a holder
    /// now. Error: that of the first family that failed.
    pub(super) fn allocated(
        &mut self,
        answers: &Answers,
        waiting: usize,
        release_at: Instant,
    ) -> Result<Dual<IpNet>, (Family, AllocateError)> {
        self.call = None;
        let complete: Result<Dual<IpNet>, _> = answers
            .iter()
            .map(|(family, answer)| Ok((family, answer.clone().map_err(|e| (family, e))?)))
            .collect();
        (self.addresses, self.unverified) = (complete.as_ref().ok().copied(), false);
        self.owed |= answers.iter().any(|(_, answer)| answer.as_ref().err().is_none_or(|e| e.is_doubtful()));
        self.phase = match waiting {
            holders if complete.is_ok() && holders > 0 => Phase::Held { holders },
            _ if self.owed => Phase::Releasing { at: release_at },
            _ => Phase::Free,
        };
        complete
    }

    /// Schedules the next renewal at this time.
    pub(super) fn renew_at(&mut self, at: Instant) {
        self.renew_at = Some(at);
    }

    /// Schedules the next renewal at this time or before.
    pub(super) fn renew_by(&mut self, at: Instant) {
        self.renew_at = self.renew_at.map(|before| before.min(at));
    }

    /// Handles the end of a Renew. True: the answer differs from the known addresses.
    pub(super) fn renewed(&mut self, answers: &Answers) -> bool {
        self.call = None;
        self.doubtful = false;
        self.unverified &= answers.iter().any(|(_, answer)| answer.is_err());
        let before = self.moved.or(self.addresses);
        let (Some(mut now), Some(held)) = (before, self.addresses) else {
            return false;
        };
        for (family, answer) in answers.iter() {
            if let Ok(address) = answer {
                *now.slot(family) = Some(*address);
            }
        }
        self.moved = (now != held).then_some(now);
        self.moved.is_some() && before != self.moved
    }

    /// Handles the end of a Release, with this many callers waiting.
    pub(super) fn released(&mut self, ok: bool, waiting: usize, retry_at: Instant) {
        self.call = None;
        (self.owed, self.doubtful) = (!ok, !ok);
        self.phase = match (self.phase, ok) {
            (Phase::Wanted, _) if waiting > 0 => Phase::Wanted,
            (_, true) => Phase::Free,
            (_, false) => Phase::Releasing { at: retry_at },
        };
    }

    /// Makes a scheduled Release due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Phase::Releasing { at } = &mut self.phase {
            *at = now.min(*at);
        }
    }
}

#[cfg(test)]
mod tests;
