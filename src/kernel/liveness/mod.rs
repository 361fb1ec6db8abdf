// SPDX-License-Identifier: Apache-2.0

//! Detects from the kernel's neighbour states whether load balancers answer.
//!
//! A load balancer may die without notice: its link stays, and packets to it are lost. So its
//! addresses are probed for their link-layer address several times a second. The kernel sends the
//! solicitations, and repeats unanswered ones by timers that are set to the interval of the probes;
//! the prober only requests them and reads the result. That needs no more than NET_ADMIN: no packet
//! socket.
//!
//! Only next hops that could carry packets are probed: those whose links are ports and up. The
//! result is declared like any other state, so that a silent next hop leaves the route with the
//! pass that follows at once, and returns when it answers again.

mod judge;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::judge::Judge;
pub use self::judge::Sight;
use super::{Mac, Ours, Refusal, Role, Status, Withheld, claims::Claims};

/// Timeout of the last probe; the others have an interval each.
const LAST_ANSWER: Duration = Duration::from_millis(50);

/// How load balancers are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between two probes.
    pub interval: Duration,
    /// Number of unanswered probes after which a load balancer is silent.
    pub probes: u32,
}

impl Default for Settings {
    /// Six probes, 150 ms apart.
    fn default() -> Self {
        Self { interval: Duration::from_millis(150), probes: 6 }
    }
}

/// Whether each address answers. An address that is not listed is not known yet.
pub type Verdicts = BTreeMap<IpAddr, bool>;

/// An entry of the kernel's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its state.
    pub sight: Sight,
    /// Its MAC address, if the kernel has one.
    pub mac: Option<Mac>,
    /// Time since its last answer, in whole steps of 10 ms, if the kernel has it.
    pub answered_ago: Option<Duration>,
}

impl Neighbour {
    /// No entry.
    pub(super) const fn unknown() -> Self {
        Self { sight: Sight::Unknown, mac: None, answered_ago: None }
    }
}

/// The neighbour entries of our bridge. Calls do not wait.
pub trait Neighbours: Send + 'static {
    /// Sets the kernel's timers, so that it repeats solicitations at the interval of the probes. An
    /// entry keeps the timer with which it began.
    ///
    /// # Errors
    /// The kernel's answer, or that of the socket call.
    fn prepare(&mut self, ours: &Ours) -> Result<(), Refusal>;

    /// Reads the entry of each address, in their order. Sets the timers before.
    ///
    /// # Errors
    /// The kernel's answer, or that of the socket call.
    fn look(&mut self, ours: &Ours, addresses: &[IpAddr]) -> Result<Vec<Neighbour>, Refusal>;

    /// Solicits these addresses, given their last states.
    ///
    /// # Errors
    /// That of the socket call.
    fn ask(&mut self, addresses: &[(IpAddr, Sight)]) -> Result<(), Refusal>;
}

/// Probes the next hops, and declares which answer.
pub(super) struct Prober {
    settings: Settings,
    neighbours: Box<dyn Neighbours>,
    claims: Arc<Claims>,
    status: watch::Receiver<Status>,
    verdicts: watch::Sender<Verdicts>,
    next_hops: BTreeMap<IpAddr, NextHop>,
    /// The last read failed.
    failing: bool,
}

/// A next hop.
struct NextHop {
    judge: Judge,
    /// It could carry packets, so it is probed.
    probed: bool,
    /// When it was solicited, while no answer is known.
    solicited: Option<Instant>,
}

impl NextHop {
    fn new(now: Instant) -> Self {
        Self { judge: Judge::new(now), probed: false, solicited: None }
    }

    /// The time from the solicitation to its answer, when that is read first. The kernel keeps the
    /// time since an answer in whole steps of 10 ms, so that the result may be as much too long.
    fn answered(&mut self, neighbour: Neighbour, now: Instant) -> Option<Duration> {
        if neighbour.sight != Sight::Answered {
            return None;
        }
        let solicited = self.solicited.take()?;
        now.duration_since(solicited).checked_sub(neighbour.answered_ago?)
    }
}

impl Prober {
    pub(super) fn new(
        settings: Settings,
        neighbours: Box<dyn Neighbours>,
        claims: Arc<Claims>,
        status: watch::Receiver<Status>,
        verdicts: watch::Sender<Verdicts>,
    ) -> Self {
        Self { settings, neighbours, claims, status, verdicts, next_hops: BTreeMap::new(), failing: false }
    }

    /// Runs until the reconciler ends.
    pub(super) async fn run(mut self) {
        let mut due = Instant::now();
        self.follow(Instant::now());
        loop {
            let probing = self.next_hops.values().any(|hop| hop.probed);
            tokio::select! {
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = Instant::now();
                    self.follow(now);
                    if !probing {
                        due = now;
                    }
                }
                () = sleep_until(due), if probing => {
                    let now = Instant::now();
                    self.round(now, now - due <= self.settings.interval / 2);
                    due = now + self.pause();
                }
            }
        }
    }

    /// Updates the next hops, and which of them could carry packets.
    fn follow(&mut self, now: Instant) {
        let mut there = BTreeMap::<IpAddr, bool>::new();
        let status = self.status.borrow_and_update();
        for (_, peer) in status.peers.iter().filter(|(id, _)| id.role == Role::LoadBalancer) {
            for (address, verdict) in &peer.next_hops {
                *there.entry(*address).or_default() |= could_carry(verdict);
            }
        }
        let bridge = status.bridge.is_some();
        drop(status);
        if bridge {
            let prepared = self.neighbours.prepare(&self.claims.settings.ours);
            self.logged(prepared);
        }
        let gone: Vec<IpAddr> =
            self.next_hops.keys().filter(|it| !there.contains_key(*it)).copied().collect();
        for address in gone {
            self.claims.work.forget(address);
            if self.next_hops.remove(&address).is_some_and(|hop| hop.judge.verdict().is_some()) {
                self.claims.declare(|state| state.forget_answers(address));
            }
        }
        for (address, probed) in there {
            let hop = self.next_hops.entry(address).or_insert_with(|| NextHop::new(now));
            if probed && !hop.probed {
                hop.judge.begin();
            }
            hop.probed = probed;
        }
        self.publish();
    }

    /// Reads and judges every next hop, and solicits those that are not being solicited already.
    fn round(&mut self, now: Instant, on_time: bool) {
        let probed: Vec<IpAddr> =
            self.next_hops.iter().filter(|(_, hop)| hop.probed).map(|(address, _)| *address).collect();
        let neighbours = self.neighbours.look(&self.claims.settings.ours, &probed);
        let Some(neighbours) = self.logged(neighbours) else { return };
        self.claims.work.probed(probed.len());
        let soliciting = Instant::now();
        let mut to_solicit = Vec::new();
        let mut changed = false;
        for (address, neighbour) in probed.into_iter().zip(neighbours) {
            let sight = neighbour.sight;
            let Some(hop) = self.next_hops.get_mut(&address) else { continue };
            if let Some(took) = hop.answered(neighbour, now) {
                self.claims.work.answered(address, took);
            }
            let before = hop.judge.verdict();
            hop.judge.take(sight, on_time, now, &self.settings);
            match hop.judge.verdict() {
                Some(answers) if before != Some(answers) => {
                    changed = true;
                    log(address, answers, before);
                    if !answers {
                        self.claims.work.silenced();
                        self.claims.work.forget(address);
                    }
                    self.claims.declare(|state| state.set_answers(address, answers));
                }
                _ => {}
            }
            if !matches!(sight, Sight::Fixed | Sight::Asked) {
                hop.solicited = Some(soliciting); // `Asked`: since an earlier round
            }
            if sight != Sight::Fixed {
                to_solicit.push((address, sight));
            }
        }
        let sent = self.neighbours.ask(&to_solicit);
        self.logged(sent);
        if changed {
            self.publish();
        }
    }

    /// The value of a call of the kernel. A series of failures is logged when it begins and when it
    /// ends.
    fn logged<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        match &result {
            Err(refusal) if !self.failing => tracing::warn!(%refusal, "load balancers are not probed"),
            Ok(_) if self.failing => tracing::info!("load balancers are probed again"),
            _ => {}
        }
        self.failing = result.is_err();
        result.ok()
    }

    fn publish(&self) {
        let verdicts: Verdicts = self
            .next_hops
            .iter()
            .filter_map(|(address, hop)| Some((*address, hop.judge.verdict()?)))
            .collect();
        self.verdicts.send_if_modified(|last| {
            let changed = *last != verdicts;
            *last = verdicts;
            changed
        });
    }

    /// Time until the next round: up to a tenth shorter than the interval, so that proxies do not
    /// probe in step.
    fn pause(&self) -> Duration {
        let doubtful = self.next_hops.values().any(|hop| hop.probed && hop.judge.is_doubtful(&self.settings));
        let interval = self.settings.interval;
        let pause = if doubtful { interval.min(LAST_ANSWER) } else { interval };
        pause.mul_f64(rand::random_range(0.9..=1.0))
    }
}

/// Whether a next hop could carry packets if it answered.
fn could_carry(verdict: &Result<(), Withheld>) -> bool {
    use Withheld::{Link, NoHost, NoLink, OffLink, Own, Refused};
    !matches!(verdict, Err(NoLink | Link(..) | OffLink | Own | NoHost | Refused(_)))
}

fn log(address: IpAddr, answers: bool, before: Option<bool>) {
    match (answers, before) {
        (true, None) => tracing::debug!(%address, "a load balancer answers"),
        (true, Some(_)) => tracing::info!(%address, "a load balancer answers again"),
        (false, _) => tracing::warn!(%address, "a load balancer does not answer"),
    }
}

#[cfg(test)]
mod tests;
