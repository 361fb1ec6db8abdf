// SPDX-License-Identifier: Apache-2.0

//! Decides which addresses of load balancers are next hops.
//!
//! 1. Its connection has a link that is a port and carries frames.
//! 2. It lies in a subnet of an address of the bridge, and is neither that address nor the subnet's
//!    network or broadcast address.
//! 3. The kernel has not refused a route with it.
//! 4. It answers. If none of a family does, the last ones that did stay: dropping all traffic would
//!    be no better.
//! 5. It is not in doubt, unless all that answer are.
//!
//! An address of two connections is a next hop if it may be one for either.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    api::Family,
    kernel::{Observed, Peer, PeerId, Role, Withheld, claims::Declared, remembered::Remembered},
};

/// The state on which the decision depends beside the records.
pub(super) struct Inputs<'a> {
    pub(super) observed: &'a Observed,
    /// Addresses that the bridge should have; `None` means those that it has.
    pub(super) addresses: Option<&'a BTreeSet<IpNet>>,
    pub(super) declared: &'a Declared,
    pub(super) remembered: &'a Remembered,
}

impl Inputs<'_> {
    /// Decides for each next hop of the records. Returns those to install, and the families in
    /// which none answers.
    pub(super) fn choose(&self, peers: &mut BTreeMap<PeerId, Peer>) -> (BTreeSet<IpAddr>, Vec<Family>) {
        let mut possible = BTreeSet::new();
        for peer in peers.iter_mut().filter(|(id, _)| id.role == Role::LoadBalancer).map(|(_, peer)| peer) {
            let unlinked = peer.unlinked();
            for (hop, verdict) in &mut peer.next_hops {
                match unlinked.clone().or_else(|| self.misplaced(*hop)).or_else(|| self.refused(*hop)) {
                    None => _ = possible.insert(*hop),
                    Some(why) => *verdict = Err(why),
                }
            }
        }
        let (answering, silent) = self.answering(&possible);
        let chosen = self.trusted(&answering, peers);
        for (hop, verdict) in peers.values_mut().flat_map(|peer| &mut peer.next_hops) {
            if verdict.is_ok() && !chosen.contains(hop) {
                *verdict = Err(if answering.contains(hop) { Withheld::Doubted } else { Withheld::Silent });
            }
        }
        (chosen, silent)
    }

    /// Rule 2.
    fn misplaced(&self, hop: IpAddr) -> Option<Withheld> {
        let mut nets = self
            .observed
            .addresses
            .iter()
            .filter(|net| self.addresses.is_none_or(|wanted| wanted.contains(net)))
            .filter(|net| net.contains(&hop))
            .peekable();
        if nets.peek().is_none() {
            return Some(Withheld::OffLink);
        }
        nets.find_map(|net| {
            let host = net.max_prefix_len() - net.prefix_len();
            let broadcast = hop.is_ipv4() && hop == net.broadcast();
            match () {
                () if net.addr() == hop => Some(Withheld::Own),
                () if host > 1 && (hop == net.network() || broadcast) => Some(Withheld::NoHost),
                () => None,
            }
        })
    }

    /// Rule 3.
    fn refused(&self, hop: IpAddr) -> Option<Withheld> {
        self.remembered.refused.get(&hop).map(|refused| Withheld::Refused(refused.answer.clone()))
    }

    /// Rule 4.
    fn answering(&self, possible: &BTreeSet<IpAddr>) -> (BTreeSet<IpAddr>, Vec<Family>) {
        let mut chosen = BTreeSet::new();
        let mut silent = Vec::new();
        for family in Family::BOTH {
            let all: BTreeSet<_> =
                possible.iter().copied().filter(|hop| Family::of(*hop) == family).collect();
            let answers = &self.declared.answers;
            let answering: BTreeSet<_> =
                all.iter().filter(|hop| answers.get(*hop) != Some(&false)).copied().collect();
            if !answering.is_empty() || all.is_empty() {
                chosen.extend(answering);
                continue;
            }
            silent.push(family);
            let last = self.remembered.answering.get(family);
            let last: BTreeSet<_> =
                last.into_iter().flatten().filter(|hop| all.contains(hop)).copied().collect();
            chosen.extend(if last.is_empty() { all } else { last });
        }
        (chosen, silent)
    }

    /// Rule 5.
    fn trusted(&self, answering: &BTreeSet<IpAddr>, peers: &BTreeMap<PeerId, Peer>) -> BTreeSet<IpAddr> {
        let trusted: BTreeSet<_> = peers
            .iter()
            .filter(|(id, _)| !self.declared.doubted.contains_key(*id))
            .flat_map(|(_, peer)| peer.next_hops.keys())
            .filter(|hop| answering.contains(hop))
            .copied()
            .collect();
        let families: BTreeSet<_> = trusted.iter().map(|hop| Family::of(*hop)).collect();
        answering
            .iter()
            .filter(|hop| trusted.contains(hop) || !families.contains(&Family::of(**hop)))
            .copied()
            .collect()
    }
}
