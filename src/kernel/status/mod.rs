// SPDX-License-Identifier: Apache-2.0

//! The state of the kernel, as of the last dump, and its faults.

mod faults;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

pub use self::faults::Faults;
use super::{
    Attachment, Desired, Mac, Observed, Op, Peer, PeerId, Reach, Refusal, Withheld, WrongSysctl,
    backend::errno, snapshot::Snapshot,
};
use crate::api::{Dual, Family, InterfaceName};

/// Maximum number of failures in a status.
const MAX_FAILURES: usize = 16;
/// Maximum number of changes that are left to make in a status.
const MAX_LEFT: usize = 64;

/// State of the kernel as of the last dump, with the outcome of the reconciler's last pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The last pass included all declarations up to this revision.
    pub revision: u64,
    /// The bridge exists and is up, and packets that enter by it are dropped unless they are from a
    /// VIP. No target may be answered before this is true.
    pub leak_stop: bool,
    /// MAC address of the bridge.
    pub bridge: Option<Mac>,
    /// Declared gateways that the bridge has.
    pub gateways: Dual<IpNet>,
    /// Addresses of the bridge, without those of scope link.
    pub addresses: BTreeSet<IpNet>,
    /// Next hops in the default route of each family, by way of the bridge, as read back from the
    /// kernel.
    pub next_hops: Dual<BTreeSet<IpAddr>>,
    /// Claimed links that are ports.
    pub ports: BTreeSet<InterfaceName>,
    /// Claimed links that are not ports: they do not exist yet, or the kernel refused.
    pub pending: BTreeSet<InterfaceName>,
    /// Claimed links whose leak stop is in place, in every family of the kernel. Empty while the
    /// kernel cannot be read.
    pub leak_stopped: BTreeSet<InterfaceName>,
    /// Every connection, as it was declared or adopted, with its state in the kernel.
    pub peers: Arc<BTreeMap<PeerId, Peer>>,
    /// Whether addresses of load balancers answer, as last reported. An address that is not listed
    /// has not been probed.
    pub answers: BTreeMap<IpAddr, bool>,
    /// All VIP rules are in place. False until the VIPs are known.
    pub vips: bool,
    /// Number of VIP rules that are in place.
    pub vip_rules: usize,
    /// The desired state of the last pass.
    pub desired: Option<Arc<Desired>>,
    /// The changes that the last pass has left to make, at most 64.
    pub left: Vec<Op>,
    /// Links that an earlier process left in the bridge and that no connection has claimed since
    /// the proxy became ready. They stay.
    pub orphans: BTreeSet<InterfaceName>,
    /// Passes made.
    pub passes: u64,
    /// Time that they took.
    pub busy: Duration,
    /// Number of other programs' changes that the last pass reverted.
    pub drift: usize,
    /// Number of other programs' changes that all passes reverted.
    pub drifts: u64,
    /// The first of the changes that reverted the last such ones, if that is not longer ago than a
    /// resync interval.
    pub reverted: Arc<[String]>,
    /// Changes that the reconciler has made since it started.
    pub writes: u64,
    /// The changes and reads of the last pass that failed, at most 16.
    pub failures: Vec<Failure>,
    /// The reasons why the state differs from the declared one, or does not match it yet.
    pub degraded: Vec<Degraded>,
    /// The reconciler has ended.
    pub stopped: bool,
}

/// A change that the kernel refused, or a dump that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The refused change; `None` is the dump.
    pub op: Option<Op>,
    /// The kernel's answer.
    pub refusal: Refusal,
}

/// A reason why the state differs from the declared one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degraded {
    /// The kernel cannot be read or changed, or another program reverts the changes.
    Failing,
    /// A sysctl has a wrong value. The init container sets them.
    Sysctl(WrongSysctl),
    /// A link that is not a bridge has the name of our bridge. Rename or remove it.
    NameTaken(InterfaceName),
    /// A link of a connection cannot be made a port: it must not be one, or has not appeared in
    /// time.
    Unattached(PeerId, InterfaceName, Attachment),
    /// A next hop of a connection is left out of the default route.
    Withheld(PeerId, IpAddr, Withheld),
    /// No next hop of a family answers; the last ones stay.
    NoneAnswers(Family),
    /// Load balancers are not probed, for this reason.
    NotProbed(String),
    /// Changed MAC addresses are not announced, for this reason.
    NotAnnounced(String),
    /// An empty VIP list has arrived; the previous VIPs stay for the grace time.
    VipsHeld,
    /// Some objects of an earlier process are still kept.
    Adopted,
    /// The reconciler has stopped, and left the bridge and its leak stops because the bridge still
    /// has ports.
    LeftForSuccessor,
}

impl Status {
    /// Whether a next hop is installed.
    pub fn has_next_hop(&self, address: IpAddr) -> bool {
        self.next_hops.get(Family::of(address)).is_some_and(|hops| hops.contains(&address))
    }

    /// Whether some objects of an earlier process have no successor yet.
    pub fn adopts(&self) -> bool {
        self.peers.values().any(|peer| peer.adopted)
    }

    /// Whether changed MAC addresses are announced, if that is enabled.
    pub fn announces(&self) -> bool {
        !self.degraded.iter().any(|degraded| matches!(degraded, Degraded::NotAnnounced(_)))
    }

    /// The next hops of all connections, installed or not.
    pub fn declared_next_hops(&self) -> BTreeSet<IpAddr> {
        self.peers.values().flat_map(|peer| peer.next_hops.keys().copied()).collect()
    }

    /// Whether packets reach the load balancer of a connection with these addresses.
    pub fn reach(&self, peer: &PeerId, addresses: &[IpAddr]) -> Reach {
        let Some(record) = self.peers.get(peer) else { return Reach::Unknown };
        if !record.links.values().any(|link| *link == Attachment::Running) {
            return Reach::Silent;
        }
        let answers: Vec<_> = addresses.iter().map(|address| self.answers.get(address).copied()).collect();
        match answers.as_slice() {
            answers if answers.contains(&Some(true)) => Reach::Answers,
            answers if answers.contains(&None) || answers.is_empty() => Reach::Unknown,
            _ => Reach::Silent,
        }
    }

    /// Updates the status from a dump and the snapshot that belongs to it.
    pub(super) fn read(&mut self, observed: &Observed, snapshot: &Snapshot) {
        let Snapshot { desired, gateways, peers, answers, .. } = snapshot;
        let bridge = observed.bridge(&desired.ours);
        let index = bridge.map(|link| link.index);
        let stops = observed.leak_stops(&desired.ours);
        let stopped = |link: &InterfaceName| {
            observed.families().all(|family| stops.get(family).is_some_and(|stops| stops.contains(link)))
        };
        self.leak_stop = bridge.is_some_and(|link| link.up) && stopped(&desired.ours.bridge);
        self.leak_stopped = desired.ports.iter().filter(|link| stopped(link)).cloned().collect();
        self.bridge = bridge.and_then(|link| link.mac);
        self.gateways = gateways
            .iter()
            .filter(|(_, net)| observed.addresses.contains(net))
            .map(|(family, net)| (family, *net))
            .collect();
        self.addresses.clone_from(&observed.addresses);
        let hops = Family::BOTH.into_iter().map(|family| {
            let ours = observed.next_hops(family).filter(|hop| Some(hop.device) == index);
            (family, ours.map(|hop| hop.via).collect())
        });
        self.next_hops = hops.collect();
        if !Arc::ptr_eq(&self.peers, peers) {
            let links = || peers.values().flat_map(|peer| &peer.links);
            self.ports = links().filter(|(_, at)| at.is_port()).map(|(link, _)| link.clone()).collect();
            self.pending = links().filter(|(_, at)| !at.is_port()).map(|(link, _)| link.clone()).collect();
            self.peers = Arc::clone(peers);
        }
        self.answers.clone_from(answers);
        let rules: HashSet<_> =
            observed.rules.iter().filter(|rule| rule.stops_leaks_of(&desired.ours).is_none()).collect();
        let vips = desired.vip_rules.as_deref();
        self.vip_rules = vips.map_or(0, |vips| vips.iter().filter(|rule| rules.contains(rule)).count());
        self.vips = vips.is_some_and(|vips| vips.len() == self.vip_rules);
    }

    /// Keeps the first of the changes that are left to make, with their desired state.
    pub(super) fn leave(&mut self, desired: Desired, mut left: Vec<Op>) {
        left.truncate(MAX_LEFT);
        self.desired = Some(Arc::new(desired));
        self.left = left;
    }

    /// Keeps the first failures.
    pub(super) fn list(&mut self, failures: Vec<Failure>) {
        self.failures = failures;
        self.failures.truncate(MAX_FAILURES);
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.op {
            Some(op @ Op::Attach(..)) if self.refusal.errno == errno::EXFULL => {
                write!(f, "{op}: it has no room for more ports (1023 at most)")
            }
            Some(op) => write!(f, "{op}: {}", self.refusal),
            None => write!(f, "the kernel cannot be read: {}", self.refusal),
        }
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Degraded::Failing => f.write_str("the kernel does not stay as it is changed"),
            Degraded::Sysctl(sysctl) => sysctl.fmt(f),
            Degraded::NameTaken(name) => write!(f, "{name} exists and is not a bridge"),
            Degraded::Unattached(peer, link, attachment) => write!(f, "{peer}: link {link} {attachment}"),
            Degraded::Withheld(peer, hop, why) => write!(f, "{peer}: next hop {hop} is left out: {why}"),
            Degraded::NoneAnswers(family) => write!(f, "no {family} next hop answers, the last ones stay"),
            Degraded::NotProbed(why) => write!(f, "load balancers are not probed: {why}"),
            Degraded::NotAnnounced(why) => {
                write!(f, "changed MAC addresses are not announced (that needs CAP_NET_RAW): {why}")
            }
            Degraded::VipsHeld => {
                f.write_str("the VIP list is empty, the last one is kept for the grace time")
            }
            Degraded::Adopted => {
                f.write_str("what an earlier process left is kept until it is claimed or released")
            }
            Degraded::LeftForSuccessor => {
                f.write_str("stopped; the bridge still has ports and stays, without egress")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_balancer_is_reached_by_the_table() {
        let hops = ["172.16.1.2", "fd00::2"].map(|hop| hop.parse::<IpAddr>().unwrap());
        let id = PeerId::load_balancer("lb-1");
        let status = |links: &[Attachment], answers: &[bool]| Status {
            peers: Arc::new(BTreeMap::from([(
                id.clone(),
                Peer {
                    links: links.iter().map(|link| ("nsm-1".parse().unwrap(), *link)).collect(),
                    ..Peer::default()
                },
            )])),
            answers: hops.into_iter().zip(answers.iter().copied()).collect(),
            ..Status::default()
        };
        use Attachment::{Detached, Down, Missing, Running};
        // its link, which of its addresses answer, whether it is reached
        let table = [
            (status(&[Running], &[true, true]), Reach::Answers),
            (status(&[Running], &[false, true]), Reach::Answers),
            (status(&[Running], &[false, false]), Reach::Silent),
            (status(&[Running], &[false]), Reach::Unknown),
            (status(&[Running], &[]), Reach::Unknown),
            (status(&[Down], &[true, true]), Reach::Silent),
            (status(&[Detached], &[true, true]), Reach::Silent),
            (status(&[Missing], &[]), Reach::Silent),
            (status(&[], &[true, true]), Reach::Silent),
            (Status::default(), Reach::Unknown),
        ];
        for (at, (status, expected)) in table.into_iter().enumerate() {
            assert_eq!(status.reach(&id, &hops), expected, "row {at}");
        }
        assert_eq!(status(&[Running], &[true]).reach(&id, &[]), Reach::Unknown, "no address");
    }
}
