// SPDX-License-Identifier: Apache-2.0

//! Finds the next hops because of which the kernel refuses a whole route.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    api::Family,
    kernel::{Backend, Observed, Op, Ours, backend::errno},
};

/// Installs as many of the wanted next hops as the kernel accepts, beginning with those that are
/// installed, so that these carry traffic meanwhile. Returns those that it refuses, with its
/// answers; `None` if the route is refused for another reason than single next hops.
pub(super) async fn isolate<B: Backend>(
    backend: &mut B,
    (ours, observed): (&Ours, &Observed),
    (family, wanted): (Family, &BTreeSet<IpAddr>),
) -> Option<BTreeMap<IpAddr, String>> {
    let installed = observed.next_hops(family).map(|hop| hop.via);
    let mut taken: BTreeSet<_> = installed.filter(|hop| wanted.contains(hop)).collect();
    if !taken.is_empty() && backend.apply(ours, &Op::SetNextHops(family, taken.clone())).await.is_err() {
        taken.clear();
    }
    let mut refused = BTreeMap::new();
    for hop in wanted - &taken {
        taken.insert(hop);
        match backend.apply(ours, &Op::SetNextHops(family, taken.clone())).await {
            Ok(()) => {}
            Err(refusal) if is_of_a_next_hop(refusal.errno) => {
                taken.remove(&hop);
                refused.insert(hop, refusal.to_string());
            }
            Err(_) => return None,
        }
    }
    (!taken.is_empty()).then_some(refused)
}

/// Whether the kernel refuses because of a next hop, and not because it lacks memory or permission.
pub(super) fn is_of_a_next_hop(number: i32) -> bool {
    use errno::{EADDRNOTAVAIL, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH};
    [EADDRNOTAVAIL, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH].contains(&number)
}
