// SPDX-License-Identifier: Apache-2.0

//! Decides when the sysctls are checked.

use tokio::time::Instant;

use super::WrongSysctl;
use crate::kernel::{Degraded, Observed};

/// The last check of the sysctls.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Check {
    wrong: Vec<WrongSysctl>,
    /// When the next one is due; `None` before the first.
    due: Option<Instant>,
    /// IPv6 was disabled on the bridge then.
    v6_disabled: bool,
}

impl Check {
    /// Whether a pass should check again: it is time, or its dump shows a change that only a sysctl
    /// can have caused.
    pub(in crate::kernel) fn is_due(&self, observed: &Observed, now: Instant) -> bool {
        let changed = observed.bridge_settings.v6_disabled != self.v6_disabled;
        changed || self.due.is_none_or(|due| due <= now)
    }

    /// Takes the sysctls that are wrong now. The next check is due at `due`.
    pub(in crate::kernel) fn take(&mut self, wrong: Vec<WrongSysctl>, observed: &Observed, due: Instant) {
        self.v6_disabled = observed.bridge_settings.v6_disabled;
        self.due = Some(due);
        self.wrong = wrong;
    }

    /// The sysctls that were wrong at the last check.
    pub(in crate::kernel) fn degraded(&self) -> impl Iterator<Item = Degraded> {
        self.wrong.iter().cloned().map(Degraded::Sysctl)
    }

    /// When a pass is needed for the next check. While no sysctl is wrong, the regular passes are
    /// enough.
    pub(in crate::kernel) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.wrong.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_due_at_first_at_its_time_and_when_ipv6_comes_or_goes() {
        let now = Instant::now();
        let later = Instant::now() + Duration::from_secs(90);
        let mut check = Check::default();
        let mut observed = Observed::default();
        assert!(check.is_due(&observed, now));
        check.take(Vec::new(), &observed, later);
        assert_eq!([now, later].map(|now| check.is_due(&observed, now)), [false, true]);
        observed.bridge_settings.v6_disabled = true;
        assert!(check.is_due(&observed, now));
        check.take(Vec::new(), &observed, later);
        assert!(!check.is_due(&observed, now));
    }
}
