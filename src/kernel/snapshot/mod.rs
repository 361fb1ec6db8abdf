// SPDX-License-Identifier: Apache-2.0

//! Combines declarations, remembered state and a dump into the desired state.

mod next_hops;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use tokio::time::Instant;

use self::next_hops::Inputs;
use super::{
    Attachment, Degraded, Desired, Observed, Ours, Peer, PeerId, Settings, claims::Declared,
    remembered::Remembered,
};
use crate::api::{Dual, InterfaceName};

/// The desired state at a moment, with the reasons why it is less than was declared.
pub(super) struct Snapshot {
    pub(super) revision: u64,
    pub(super) desired: Desired,
    pub(super) gateways: Dual<IpNet>,
    pub(super) peers: Arc<BTreeMap<PeerId, Peer>>,
    pub(super) answers: BTreeMap<IpAddr, bool>,
    pub(super) degraded: Vec<Degraded>,
    pub(super) orphans: BTreeSet<InterfaceName>,
    /// When time alone changes the desired state.
    pub(super) due: Option<Instant>,
}

/// The sources of a snapshot.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) declared: &'a Declared,
    pub(super) remembered: &'a Remembered,
    pub(super) observed: &'a Observed,
    pub(super) settings: &'a Settings,
    pub(super) now: Instant,
}

impl Sources<'_> {
    pub(super) fn snapshot(&self) -> Snapshot {
        let Sources { declared, remembered, observed, settings, .. } = *self;
        let mut peers = self.peers();
        let addresses = self.addresses();
        let inputs = Inputs { observed, addresses: addresses.as_ref(), declared, remembered };
        let (next_hops, silent) = inputs.choose(&mut peers);
        let desired = Desired {
            ours: settings.ours.clone(),
            mac: settings.mac,
            present: !declared.stopping,
            ports: peers.values().flat_map(|peer| peer.links.keys().cloned()).collect(),
            leaving: remembered.leaving.names().cloned().collect(),
            next_hops,
            vip_rules: remembered.vips.rules(),
            addresses,
        };
        let orphans = self.orphans();
        let mut degraded = self.degraded(&desired.ours, &peers);
        degraded.extend(silent.into_iter().map(Degraded::NoneAnswers));
        let desired = if declared.stopping { stopped(desired) } else { desired };
        let due = self.due();
        Snapshot {
            revision: declared.revision,
            desired,
            gateways: declared.gateways,
            peers: Arc::new(peers),
            answers: declared.answers.clone(),
            degraded,
            orphans,
            due,
        }
    }

    /// The records: declared ones, and those of objects that an earlier process left.
    fn peers(&self) -> BTreeMap<PeerId, Peer> {
        let Self { observed, settings: Settings { ours, .. }, .. } = *self;
        let bridge = observed.bridge(ours).map(|bridge| bridge.index);
        let declared = self.declared.peers.iter().map(|(id, claimed)| {
            let mut peer = Peer::default();
            claimed.links().for_each(|name| peer.add_link(name, observed, ours, bridge));
            peer.addresses.extend(claimed.far());
            peer.next_hops.extend(claimed.next_hops().map(|hop| (hop, Ok(()))));
            (id.clone(), peer)
        });
        let mut peers: BTreeMap<PeerId, Peer> = declared.collect();
        for (id, left) in self.remembered.adoption.iter().flat_map(|adoption| &adoption.peers) {
            let peer = peers.entry(id.clone()).or_insert(Peer { adopted: true, ..Peer::default() });
            left.links.iter().for_each(|name| peer.add_link(name, observed, ours, bridge));
            peer.next_hops.extend(left.next_hops.iter().map(|hop| (*hop, Ok(()))));
        }
        peers
    }

    /// Addresses of the bridge, once the gateways are known.
    fn addresses(&self) -> Option<BTreeSet<IpNet>> {
        let gateways = self.declared.gateways.iter().map(|(_, net)| net);
        let kept = self.remembered.former.nets();
        (!self.declared.gateways.is_empty()).then(|| gateways.chain(kept).copied().collect())
    }

    fn degraded(&self, ours: &Ours, peers: &BTreeMap<PeerId, Peer>) -> Vec<Degraded> {
        let mut out = Vec::new();
        if self.observed.link(&ours.bridge).is_some() && self.observed.bridge(ours).is_none() {
            out.push(Degraded::NameTaken(ours.bridge.clone()));
        }
        for (id, peer) in peers {
            for (link, attachment) in &peer.links {
                let faulty = match attachment {
                    Attachment::Foreign => true,
                    Attachment::Missing => self.expected_until(link).is_some_and(|until| self.now >= until),
                    _ => false,
                };
                if faulty {
                    out.push(Degraded::Unattached(id.clone(), link.clone(), *attachment));
                }
            }
            for (hop, verdict) in &peer.next_hops {
                if let Err(why) = verdict {
                    out.push(Degraded::Withheld(id.clone(), *hop, why.clone()));
                }
            }
        }
        out.extend(self.remembered.vips.due().map(|_| Degraded::VipsHeld));
        let left = self.remembered.adoption.as_ref().is_some_and(|adoption| !adoption.peers.is_empty());
        out.extend((left && !self.is_adoption_over()).then_some(Degraded::Adopted));
        out
    }

    /// Links that an earlier process left and that are still not claimed after the adoption time.
    fn orphans(&self) -> BTreeSet<InterfaceName> {
        let left = self.remembered.adoption.iter().filter(|_| self.is_adoption_over());
        left.flat_map(|adoption| adoption.links()).cloned().collect()
    }

    /// Whether the objects of an earlier process should have been claimed by now.
    fn is_adoption_over(&self) -> bool {
        self.adoption_ends().is_some_and(|until| self.now >= until)
    }

    fn adoption_ends(&self) -> Option<Instant> {
        self.declared.ready.map(|ready| ready + self.settings.adoption)
    }

    /// Until when a claimed link may be missing without a fault.
    fn expected_until(&self, link: &InterfaceName) -> Option<Instant> {
        self.remembered.links.get(link).map(|watched| watched.since + self.settings.appearance)
    }

    /// When time changes the desired state next. Deadlines that have passed (links that other
    /// programs have not removed) are not counted.
    fn due(&self) -> Option<Instant> {
        let former = self.remembered.former.due();
        let links = self
            .remembered
            .links
            .keys()
            .filter(|name| self.observed.link(name).is_none())
            .filter_map(|link| self.expected_until(link));
        let all = former
            .chain(self.remembered.leaving.due())
            .chain(links)
            .chain(self.remembered.vips.due())
            .chain(self.adoption_ends());
        all.filter(|due| *due > self.now).min()
    }
}

/// The desired state after a stop: existing ports keep the bridge and its leak stop, but no route
/// leads out.
fn stopped(desired: Desired) -> Desired {
    Desired {
        next_hops: BTreeSet::new(),
        vip_rules: Some(Default::default()),
        ports: BTreeSet::new(),
        ..desired
    }
}
