// SPDX-License-Identifier: Apache-2.0

//! Announces link-layer addresses that have changed.
//!
//! A target whose link is made again keeps its IP addresses and has another MAC address. Load
//! balancers with the old one in their neighbour tables send to it until the kernel verifies the
//! entry, for up to a minute. So whenever another link is behind an address, its neighbours are
//! sent a gratuitous ARP request or an unsolicited neighbor advertisement on its behalf. The MAC
//! address is that of the kernel's neighbour table, after a new solicitation.
//!
//! 1. The addresses of a connection are announced when a link of it has become a port that carries
//!    frames, also for the first time: an earlier connection, or an earlier process, may have had
//!    the same addresses on another link.
//! 2. The gateways are announced when the MAC address of the bridge has changed, and when a process
//!    reads the bridge for the first time.
//! 3. Each is announced five times, 200 ms apart, because nothing confirms an announcement.
//! 4. The addresses of all targets are announced once when the link of a load balancer has become a
//!    port; see `joined`.
//! 5. At most a hundred frames are sent in a tenth of a second.

mod frame;
mod joined;
mod socket;
mod sought;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub(super) use self::socket::PacketSocket;
use self::{
    joined::Joined,
    sought::{Needed, Sought},
};
use super::{Mac, Ours, Peer, PeerId, Refusal, Role, Status, claims::Claims, liveness::Neighbours};

/// Number of announcements of an address that has another link behind it.
const TIMES: u32 = 5;
/// Time between two announcements of an address.
const SPACING: Duration = Duration::from_millis(200);
/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// Maximum number of frames in a round.
const MAX_FRAMES: usize = 100;

/// Sends announcements to all hosts connected to our bridge. Calls do not wait.
pub trait Announcements: Send + 'static {
    /// Announces once that an address has this MAC address.
    ///
    /// # Errors
    /// The error of the socket call.
    fn announce(&mut self, ours: &Ours, address: IpAddr, mac: Mac) -> io::Result<()>;
}

/// Announces addresses when another link is behind them.
pub(super) struct Announcer {
    neighbours: Box<dyn Neighbours>,
    announcements: Box<dyn Announcements>,
    claims: Arc<Claims>,
    status: watch::Receiver<Status>,
    /// The records of the last status.
    peers: Arc<BTreeMap<PeerId, Peer>>,
    /// Addresses and the indices of the ports behind them, sorted, as of the last read.
    ports: Vec<(IpAddr, u32)>,
    joined: Joined,
    /// Addresses whose MAC addresses are being resolved.
    sought: BTreeMap<IpAddr, Sought>,
    queue: BTreeMap<IpAddr, Queued>,
    /// The gateways in the last announcement, with the bridge's MAC address.
    gateways: Option<(BTreeSet<IpAddr>, Mac)>,
    /// Why the last round could not resolve or send.
    failing: Option<String>,
}

/// The outstanding announcements of an address.
struct Queued {
    mac: Mac,
    left: u32,
    due: Instant,
}

impl Announcer {
    pub(super) fn new(
        neighbours: Box<dyn Neighbours>,
        announcements: Box<dyn Announcements>,
        claims: Arc<Claims>,
        status: watch::Receiver<Status>,
    ) -> Self {
        Self {
            neighbours,
            announcements,
            claims,
            status,
            peers: Arc::default(),
            ports: Vec::new(),
            joined: Joined::default(),
            sought: BTreeMap::new(),
            queue: BTreeMap::new(),
            gateways: None,
            failing: None,
        }
    }

    /// Runs until the reconciler ends.
    pub(super) async fn run(mut self) {
        let mut due = Instant::now();
        loop {
            self.follow(Instant::now());
            let busy = self.joined.waits() || !self.sought.is_empty() || !self.queue.is_empty();
            tokio::select! {
                changed = self.status.changed() => if changed.is_err() { return },
                () = sleep_until(due), if busy => {
                    let now = Instant::now();
                    self.round(now);
                    due = now + ROUND;
                }
            }
        }
    }

    /// Finds the addresses that have another link behind them than at the last read.
    fn follow(&mut self, now: Instant) {
        let status = self.status.borrow_and_update();
        let peers = Arc::clone(&status.peers);
        let gateways = status.gateways.iter().map(|(_, net)| net.addr()).collect();
        let gateways = status.bridge.map(|mac| (gateways, mac));
        drop(status);
        if !Arc::ptr_eq(&peers, &self.peers) {
            self.peers = peers;
            self.joined.follow(&self.peers, now);
            self.follow_ports(now);
        }
        if gateways.is_some() && gateways != self.gateways {
            for (address, mac) in gateways.iter().flat_map(|(all, mac)| all.iter().map(move |it| (it, mac))) {
                self.queue.insert(*address, Queued { mac: *mac, left: TIMES, due: now });
            }
            self.gateways = gateways;
        }
    }

    fn follow_ports(&mut self, now: Instant) {
        let mut ports = Vec::with_capacity(self.ports.len());
        for peer in self.peers.values() {
            for address in &peer.addresses {
                ports.extend(peer.running.iter().map(|port| (*address, *port)));
            }
        }
        ports.sort_unstable();
        ports.dedup();
        if ports == self.ports {
            return;
        }
        let before = std::mem::replace(&mut self.ports, ports);
        let gone = before.iter().filter(|pair| self.ports.binary_search(pair).is_err());
        let come = self.ports.iter().filter(|pair| before.binary_search(pair).is_err());
        for (address, _) in gone.chain(come).filter(|(address, _)| has_port(&self.ports, address)) {
            self.queue.remove(address);
            self.sought.insert(*address, Sought::new(Needed::Later, TIMES, now));
        }
        self.sought.retain(|address, _| has_port(&self.ports, address));
    }

    /// Addresses of targets that have a port.
    fn targets(&self) -> impl Iterator<Item = &IpAddr> {
        let targets =
            self.peers.iter().filter(|(id, peer)| id.role == Role::Target && !peer.running.is_empty());
        targets.flat_map(|(_, peer)| &peer.addresses)
    }

    fn round(&mut self, now: Instant) {
        let outcome = self.seek(now).map_err(|refusal| refusal.to_string());
        let outcome = outcome.and(self.send(now).map_err(|error| error.to_string()));
        let failing = outcome.err();
        match (&failing, &self.failing) {
            (Some(error), None) => tracing::warn!(error, "addresses cannot be announced"),
            (None, Some(_)) => tracing::info!("addresses are announced again"),
            _ => {}
        }
        self.failing = failing;
    }

    /// Queues the addresses whose MAC addresses are known, and solicits the others.
    fn seek(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.joined.take(now) {
            let known = std::mem::take(&mut self.sought);
            let targets = self.targets().map(|address| (*address, Sought::new(Needed::Entry, 1, now)));
            self.sought = targets.chain(known).collect();
        }
        self.sought.retain(|address, sought| {
            let patient = now < sought.until;
            if !patient {
                tracing::debug!(%address, "an address is not announced: it does not answer");
            }
            patient
        });
        let sought: Vec<IpAddr> = self.sought.keys().copied().collect();
        let mut unasked = Vec::new();
        for (address, neighbour) in
            sought.iter().zip(self.neighbours.look(&self.claims.settings.ours, &sought)?)
        {
            let Some(sought) = self.sought.get_mut(address) else { continue };
            match neighbour.mac.filter(|_| sought.needed.accepts(neighbour.sight)) {
                Some(mac) => {
                    tracing::debug!(%address, %mac, "an address is announced");
                    let before = self.queue.get(address).map_or(0, |queued| queued.left);
                    self.queue.insert(*address, Queued { mac, left: sought.times.max(before), due: now });
                    self.sought.remove(address);
                }
                None => {
                    sought.needed = sought.needed.asked();
                    unasked.push((*address, neighbour.sight));
                }
            }
        }
        self.neighbours.ask(&unasked)
    }

    /// Sends the announcements that are due, at most [`MAX_FRAMES`].
    fn send(&mut self, now: Instant) -> io::Result<()> {
        let due = self.queue.iter_mut().filter(|(_, queued)| queued.due <= now).take(MAX_FRAMES);
        let mut outcome = Ok(());
        for (address, queued) in due {
            let sent = self.announcements.announce(&self.claims.settings.ours, *address, queued.mac);
            if sent.is_ok() {
                self.claims.work.announced();
            }
            outcome = outcome.and(sent);
            queued.left -= 1;
            queued.due = now + SPACING;
        }
        self.queue.retain(|_, queued| queued.left > 0);
        outcome
    }
}

/// Whether a port is behind an address, given the sorted addresses with their ports.
fn has_port(ports: &[(IpAddr, u32)], address: &IpAddr) -> bool {
    let at = ports.partition_point(|(other, _)| other < address);
    ports.get(at).is_some_and(|(other, _)| other == address)
}

#[cfg(test)]
mod tests;
