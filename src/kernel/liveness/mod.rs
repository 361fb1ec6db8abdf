// SPDX-License-Identifier: Apache-2.0

//! Find out whether load balancers answer, by the neighbour states of the kernel.
//!
//! A load balancer may die without a trace: its link stays, and packets for it are sent into nothing. So its addresses are asked for
//! their link-layer address several times a second. The kernel asks, and repeats what is not answered by timers that are set to the
//! interval of the probes; here it is only told to, and looked at. That needs no more than NET_ADMIN: no packet socket.
//!
//! Only next hops that could carry packets are asked: those of links that are ports and up. What comes of it is declared as any
//! other fact, so that a silent next hop leaves the route with the pass that follows at once, and comes back with its answers.

mod judge;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::judge::Judge;
pub use self::judge::Sight;
use super::{Mac, Ours, Refusal, Role, Status, Withheld, claims::Claims};

/// Longest wait for the answer to the last probe: the others have an interval each.
const LAST_ANSWER: Duration = Duration::from_millis(50);

/// How load balancers are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between two probes.
    pub interval: Duration,
    /// Probes without an answer after which a load balancer is silent.
    pub probes: u32,
}

impl Default for Settings {
    /// Six probes, 150 ms apart.
    fn default() -> Self {
        Self { interval: Duration::from_millis(150), probes: 6 }
    }
}

/// What has been found out of each address: whether it answers. One that is not listed has not been found out yet.
pub type Verdicts = BTreeMap<IpAddr, bool>;

/// An entry of the kernel's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Whether it has answered.
    pub sight: Sight,
    /// Its MAC address, if the kernel has one.
    pub mac: Option<Mac>,
}

/// What the kernel knows of the neighbours on our bridge. Calls do not wait.
pub trait Neighbours: Send + 'static {
    /// Read the entry of each address, in their order.
    ///
    /// # Errors
    /// The kernel's answer, or that of the socket call.
    fn look(&mut self, ours: &Ours, addresses: &[IpAddr]) -> Result<Vec<Neighbour>, Refusal>;

    /// Ask these addresses, of which so much is known.
    ///
    /// # Errors
    /// That of the socket call.
    fn ask(&mut self, addresses: &[(IpAddr, Sight)]) -> Result<(), Refusal>;
}

/// Asks the next hops, and declares which answer.
pub(super) struct Prober {
    settings: Settings,
    neighbours: Box<dyn Neighbours>,
    claims: Arc<Claims>,
    status: watch::Receiver<Status>,
    verdicts: watch::Sender<Verdicts>,
    /// Every next hop, and whether it is asked.
    next_hops: BTreeMap<IpAddr, (Judge, bool)>,
    /// The last look failed.
    blind: bool,
}

impl Prober {
    pub(super) fn new(
        settings: Settings,
        neighbours: Box<dyn Neighbours>,
        claims: Arc<Claims>,
        status: watch::Receiver<Status>,
        verdicts: watch::Sender<Verdicts>,
    ) -> Self {
        Self { settings, neighbours, claims, status, verdicts, next_hops: BTreeMap::new(), blind: false }
    }

    /// Run until the reconciler ends.
    pub(super) async fn run(mut self) {
        let mut due = Instant::now();
        loop {
            self.follow(Instant::now());
            let asking = self.next_hops.values().any(|(_, asked)| *asked);
            tokio::select! {
                changed = self.status.changed() => match changed {
                    Ok(()) if asking => continue,
                    Ok(()) => due = Instant::now(),
                    Err(_) => return,
                },
                () = sleep_until(due), if asking => {
                    let now = Instant::now();
                    self.round(now, now - due <= self.settings.interval / 2);
                    due = now + self.pause();
                }
            }
        }
    }

    /// Take over which next hops there are, and which of them could carry packets.
    fn follow(&mut self, now: Instant) {
        let mut there = BTreeMap::<IpAddr, bool>::new();
        let status = self.status.borrow_and_update();
        for (_, peer) in status.peers.iter().filter(|(id, _)| id.role == Role::LoadBalancer) {
            for (address, verdict) in &peer.next_hops {
                *there.entry(*address).or_default() |= could_carry(verdict);
            }
        }
        drop(status);
        let gone: Vec<IpAddr> =
            self.next_hops.keys().filter(|it| !there.contains_key(*it)).copied().collect();
        for address in gone {
            if self.next_hops.remove(&address).is_some_and(|(judge, _)| judge.verdict().is_some()) {
                self.claims.declare(|state| state.forget_answers(address));
            }
        }
        for (address, asked) in there {
            let (judge, was) = self.next_hops.entry(address).or_insert_with(|| (Judge::new(now), false));
            if asked && !*was {
                judge.begin();
            }
            *was = asked;
        }
        self.publish();
    }

    /// Look at every next hop, judge it, and ask those that are not being asked already.
    fn round(&mut self, now: Instant, on_time: bool) {
        let asked: Vec<IpAddr> =
            self.next_hops.iter().filter(|(_, (_, asked))| *asked).map(|(address, _)| *address).collect();
        let neighbours = self.neighbours.look(&self.claims.settings.ours, &asked);
        let Some(neighbours) = self.seen(neighbours) else { return };
        let mut unasked = Vec::new();
        for (address, Neighbour { sight, .. }) in asked.into_iter().zip(neighbours) {
            let Some((judge, _)) = self.next_hops.get_mut(&address) else { continue };
            let before = judge.verdict();
            judge.take(sight, on_time, now, &self.settings);
            match judge.verdict() {
                Some(answers) if before != Some(answers) => {
                    log(address, answers, before);
                    self.claims.declare(|state| state.set_answers(address, answers));
                }
                _ => {}
            }
            if sight != Sight::Fixed {
                unasked.push((address, sight));
            }
        }
        let told = self.neighbours.ask(&unasked);
        self.seen(told);
        self.publish();
    }

    /// What a call of the kernel brought. That calls fail is logged when it begins and when it ends.
    fn seen<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        match &result {
            Err(refusal) if !self.blind => tracing::warn!(%refusal, "load balancers are not probed"),
            Ok(_) if self.blind => tracing::info!("load balancers are probed again"),
            _ => {}
        }
        self.blind = result.is_err();
        result.ok()
    }

    fn publish(&self) {
        let known = |(address, (judge, _)): (&IpAddr, &(Judge, bool))| Some((*address, judge.verdict()?));
        let verdicts: Verdicts = self.next_hops.iter().filter_map(known).collect();
        self.verdicts.send_if_modified(|last| {
            let changed = *last != verdicts;
            *last = verdicts;
            changed
        });
    }

    /// Time until the next round: up to a tenth shorter than the interval, so that proxies do not ask in step.
    fn pause(&self) -> Duration {
        let doubtful =
            self.next_hops.values().any(|(judge, asked)| *asked && judge.is_doubtful(&self.settings));
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
