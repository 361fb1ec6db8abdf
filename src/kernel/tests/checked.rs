// SPDX-License-Identifier: Apache-2.0

//! A real kernel whose incremental reads are compared with full ones: a test fails if events have
//! missed a change.

use std::{io, time::Duration};

use tokio::time::sleep;

use super::over::Over;
use crate::kernel::{Backend, Netlink, Observed, Ours, Refusal};

/// Number of reads after which a difference is not caused by a change in progress.
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

impl Over for Checked {
    type Inner = Netlink;

    fn inner(&mut self) -> &mut Netlink {
        &mut self.real
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
}
