// SPDX-License-Identifier: Apache-2.0

//! The real kernel, read as the reconciler reads it and, beside it, as a whole: what events have not
//! reported fails the test.

use std::{io, time::Duration};

use tokio::time::sleep;

use crate::{
    api::Family,
    kernel::{
        Backend, Netlink, Observed, Op, Ours, Refusal, WrongSysctl,
        announce::Announcements,
        liveness::{self, Neighbours},
    },
};

/// Looks before a difference is none of a change that happens just now.
const LOOKS: usize = 20;

/// A kernel that is read twice.
pub(super) struct Checked {
    real: Netlink,
    beside: Netlink,
}

impl Checked {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { real: Netlink::open()?, beside: Netlink::open()? })
    }
}

impl Backend for Checked {
    async fn dump(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        self.real.dump(ours).await
    }

    async fn refresh(&mut self, ours: &Ours, observed: Observed) -> Result<Observed, Refusal> {
        let mut seen = self.real.refresh(ours, observed).await?;
        for _ in 0..LOOKS {
            let whole = self.beside.dump(ours).await?;
            if seen == whole {
                return Ok(seen);
            }
            sleep(Duration::from_millis(5)).await;
            seen = self.real.refresh(ours, seen).await?;
        }
        let whole = self.beside.dump(ours).await?;
        assert_eq!(seen, whole, "no event has reported the difference");
        Ok(seen)
    }

    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        self.real.apply(ours, op).await
    }

    fn wrong_sysctls(&mut self, ours: &Ours, families: &[Family]) -> Vec<WrongSysctl> {
        self.real.wrong_sysctls(ours, families)
    }

    fn neighbours(&mut self, settings: Option<liveness::Settings>) -> io::Result<Box<dyn Neighbours>> {
        self.real.neighbours(settings)
    }

    fn announcements(&mut self) -> io::Result<Box<dyn Announcements>> {
        self.real.announcements()
    }

    async fn changed(&mut self, ours: &Ours) {
        self.real.changed(ours).await;
    }

    fn overtaken(&mut self, ours: &Ours) -> bool {
        self.real.overtaken(ours)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.real.reopen()
    }
}
