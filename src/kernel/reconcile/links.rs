// SPDX-License-Identifier: Apache-2.0

//! Detects the peers whose link was replaced.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::{Peer, PeerId};

/// The indices of the links that each peer has, or had last.
#[derive(Default)]
pub(super) struct Links(BTreeMap<PeerId, BTreeSet<u32>>);

impl Links {
    /// Updates the links, and returns the peers that have another one than before.
    pub(super) fn replaced(&mut self, peers: &BTreeMap<PeerId, Peer>) -> Vec<PeerId> {
        self.0.retain(|id, _| peers.contains_key(id));
        let mut replaced = Vec::new();
        for (id, Peer { running, .. }) in peers.iter().filter(|(_, peer)| !peer.running.is_empty()) {
            match self.0.get_mut(id) {
                Some(had) if had == running => {}
                Some(had) => {
                    if !running.is_subset(had) {
                        replaced.push(id.clone());
                    }
                    had.clone_from(running);
                }
                None => drop(self.0.insert(id.clone(), running.clone())),
            }
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_another_link_only_if_it_had_one() {
        let id = PeerId::target("t1");
        let with = |running: &[u32]| {
            BTreeMap::from([(
                id.clone(),
                Peer { running: running.iter().copied().collect(), ..Peer::default() },
            )])
        };
        let mut links = Links::default();
        let table: [(&[u32], bool); 7] = [
            (&[], false),
            (&[3], false),
            (&[], false),
            (&[3], false),
            (&[], false),
            (&[4], true),
            (&[4], false),
        ];
        for (running, expected) in table {
            assert_eq!(links.replaced(&with(running)).len(), usize::from(expected), "{running:?}");
        }
        assert!(links.replaced(&BTreeMap::new()).is_empty());
        assert!(links.replaced(&with(&[5])).is_empty(), "it was forgotten");
    }
}
