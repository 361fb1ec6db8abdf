// SPDX-License-Identifier: Apache-2.0

//! Reads and changes the kernel of the current network namespace by rtnetlink.
//!
//! Needs `CAP_NET_ADMIN` in the user namespace that owns the network namespace; without it every
//! change is refused with `EPERM`.

mod answers;
pub(super) mod counters;
pub(super) mod dump;
mod message;
mod neighbours;
mod parse;
mod read;
mod requests;
pub(super) mod view;
mod watch;

use std::{collections::BTreeSet, io};

use rtnetlink::packet_route::AddressFamily;

use self::{
    neighbours::NeighbourSocket,
    requests::{Checks, Requests},
    watch::Watch,
};
use super::{
    Backend, Observed, Op, Ours, Refusal, WrongSysctl,
    announce::{Announcements, PacketSocket},
    backend::{errno, in_effect},
    liveness::{self, Neighbours},
    wrong_sysctls,
};
use crate::api::Family;

/// The kernel of the network namespace in which the calling thread was when this was opened.
pub struct Netlink {
    requests: Requests,
    watch: Watch,
    checks: Checks,
    /// Index of our bridge, as of the last read.
    bridge: Option<u32>,
    /// Indices of the devices of table main's default routes, as of the last read.
    primary: BTreeSet<u32>,
}

impl Netlink {
    /// Opens the sockets. Must be called on a thread of a tokio runtime.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn open() -> io::Result<Self> {
        Self::with(Checks::IfPossible)
    }

    fn with(checks: Checks) -> io::Result<Self> {
        Ok(Self {
            requests: Requests::open(checks)?,
            watch: Watch::open()?,
            checks,
            bridge: None,
            primary: BTreeSet::new(),
        })
    }

    /// Index of the bridge, or 0 if the change does not need it; `None` if it is needed and does
    /// not exist.
    async fn bridge_for(&mut self, ours: &Ours, op: &Op) -> Result<Option<u32>, Refusal> {
        let needed = matches!(
            op,
            Op::RaiseBridge
                | Op::ConfigureBridge
                | Op::DeleteBridge
                | Op::AddAddress(_)
                | Op::DeleteAddress(_)
                | Op::SetNextHops(..)
                | Op::ForgetNeighbour(_)
                | Op::Attach(..)
        );
        if needed && self.bridge.is_none() {
            let mut observed = Observed::default();
            self.links(&mut observed, ours).await?;
            self.bridge = observed.bridge(ours).map(|link| link.index);
        }
        Ok(if needed { self.bridge } else { Some(0) })
    }
}

impl Backend for Netlink {
    async fn dump(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        self.all(ours).await
    }

    async fn refresh(&mut self, ours: &Ours, observed: Observed) -> Result<Observed, Refusal> {
        self.again(ours, observed).await
    }

    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        let answer = match self.bridge_for(ours, op).await? {
            Some(bridge) => {
                let (message, flags) = message::of(ours, bridge, op);
                self.requests.change(message, flags).await
            }
            None => Err(Refusal::errno(errno::ENODEV)),
        };
        match answer {
            Err(refusal) if !in_effect(op, refusal.errno) => Err(refusal),
            _ => Ok(()),
        }
    }

    fn wrong_sysctls(&mut self, ours: &Ours, families: &[Family]) -> Vec<WrongSysctl> {
        wrong_sysctls(families, &ours.bridge)
    }

    fn neighbours(&mut self, settings: Option<liveness::Settings>) -> io::Result<Box<dyn Neighbours>> {
        Ok(Box::new(NeighbourSocket::open(settings)?))
    }

    fn announcements(&mut self) -> io::Result<Box<dyn Announcements>> {
        Ok(Box::new(PacketSocket::open()?))
    }

    async fn changed(&mut self, ours: &Ours) {
        self.watch.changed(ours, self.bridge).await;
    }

    fn overtaken(&mut self, ours: &Ours) -> bool {
        self.watch.overtaken(ours, self.bridge)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.requests = Requests::open(self.checks)?;
        Ok(())
    }
}

/// The netlink number of a family.
const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests;
