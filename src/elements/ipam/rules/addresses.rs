// SPDX-License-Identifier: Apache-2.0

//! The address lists of both sides.

use std::collections::HashSet;

use ipnet::IpNet;

use super::{Ours, texts};
use crate::{api::Dual, chain::Reason};

/// Rule 4: keeps our own addresses, each once, and those to keep. `nets` are the prefixes of the
/// list.
pub(super) fn renew(
    list: &mut Vec<String>,
    nets: &[IpNet],
    ours: &Dual<IpNet>,
    keep: impl Fn(&IpNet) -> bool,
) {
    let own: Vec<IpNet> = ours.iter().map(|(_, net)| *net).collect();
    let mut seen = HashSet::new();
    let stays = |net: &IpNet| (own.contains(net) || keep(net)) && seen.insert(*net);
    let stay: Vec<bool> = nets.iter().map(stays).collect();
    if own.iter().all(|net| nets.contains(net)) && stay.iter().all(|stays| *stays) {
        return;
    }
    let kept = std::mem::take(list).into_iter().zip(nets).zip(stay);
    let others = kept.filter(|((_, net), stays)| *stays && !own.contains(net)).map(|((text, _), _)| text);
    *list = texts(ours).into_iter().chain(others).collect();
}

/// Rule 2. `vips` is sorted; `None` if unknown.
pub(super) fn is_vip(net: &IpNet, vips: Option<&[IpNet]>, subnets: &HashSet<IpNet>) -> bool {
    let listed = match vips {
        Some(vips) => vips.binary_search(&net.trunc()).is_ok(),
        None => net.prefix_len() == net.max_prefix_len(),
    };
    listed && !subnets.iter().any(|subnet| subnet.contains(&net.addr()) || net.contains(subnet))
}

/// Rule 8. A target that has an address of its lease already keeps its link. `src` are the target's
/// addresses.
pub(super) fn not_excluded(src: &[IpNet], ours: &Ours, excluded: &[IpNet]) -> Result<(), Reason> {
    if ours.src.iter().any(|(_, own)| src.contains(own)) {
        return Ok(());
    }
    for (_, own) in ours.src.iter().chain(ours.dst.iter()) {
        let subnet = own.trunc();
        if let Some(overlap) = excluded.iter().find(|net| net.contains(&own.addr()) || subnet.contains(*net))
        {
            return Err(Reason::Refused(format!(
                "the lease {own} overlaps the excluded prefix {overlap} (accepted: prefixes outside of {subnet})"
            )));
        }
    }
    Ok(())
}
