// SPDX-License-Identifier: Apache-2.0

//! Chooses the connection that makes room for a newcomer.

use std::{cmp::Reverse, collections::HashMap};

use tokio::{sync::oneshot, time::Instant};

use super::{Activity, Displaced, Full, PeerKey, Places, Taken};

/// The order in which connections that may be displaced are chosen: the least first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Without a call, the newest first.
    Nothing(Reverse<u64>),
    /// The one that is idle for the longest first.
    Idle(Instant, u64),
    /// With calls in progress, the newest first.
    Calls(Reverse<u64>),
}

impl Places {
    /// Connections in the reserve of this process, or all others.
    pub(super) fn of(&self, own: bool) -> impl Iterator<Item = (u64, &Taken)> {
        self.taken.iter().filter(move |(_, taken)| taken.own == own).map(|(number, taken)| (*number, taken))
    }

    /// Displaces a connection for one of `newcomer`.
    pub(super) fn displace(&mut self, newcomer: &PeerKey, limit: usize) -> Result<Displaced, Full> {
        let found = self.of(false).filter(|(_, taken)| taken.who.is(newcomer)).count();
        let full = || Full { peer: newcomer.clone(), found, limit };
        let number = self.least(newcomer, found).ok_or_else(full)?;
        let Taken { who, displace, .. } = self.taken.remove(&number).ok_or_else(full)?;
        let (gone, end) = oneshot::channel();
        // Not received if the connection ends at this moment.
        let _ended = displace.send(gone);
        Ok(Displaced { who, end })
    }

    /// The connection that goes for one more of a peer that has `found`.
    fn least(&self, newcomer: &PeerKey, found: usize) -> Option<u64> {
        let mut counts = HashMap::<_, usize>::new();
        for (_, taken) in self.of(false) {
            *counts.entry(key(&taken.who)).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let greediest = found >= most;
        let candidates = self.of(false).filter(|(_, taken)| match greediest {
            true => taken.who.is(newcomer),
            false => counts.get(&key(&taken.who)) == Some(&most),
        });
        let (rank, number) =
            candidates.map(|(number, taken)| (rank(number, taken.activity), number)).min()?;
        // Two peers with as many must not cut each other's calls in turn.
        let may_cut = !greediest && most > found + 1;
        (may_cut || !matches!(rank, Rank::Calls(_))).then_some(number)
    }
}

fn key(who: &PeerKey) -> Result<&str, i32> {
    match who {
        PeerKey::Svid(peer) => Ok(peer.id()),
        PeerKey::Process(pid) => Err(*pid),
    }
}

fn rank(number: u64, activity: Activity) -> Rank {
    match activity {
        Activity::Nothing(_) => Rank::Nothing(Reverse(number)),
        Activity::Idle(since) => Rank::Idle(since, number),
        Activity::Calls(_) => Rank::Calls(Reverse(number)),
    }
}
