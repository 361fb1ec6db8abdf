// SPDX-License-Identifier: Apache-2.0

//! Decides the content of a connection's IP context. `src` is the client's side of a link, `dst`
//! the endpoint's.
//!
//! Towards a load balancer, where the proxy is the client:
//! 1. `src` gets the addresses of the lease `<id>-dst` and `dst` those of `<id>-src`. The names are
//!    swapped, as the Go proxy swaps them, so that a replaced proxy finds the addresses that its
//!    predecessor allocated. Both lists are overwritten. Former addresses of the load balancer come
//!    behind, so that it reaches targets that have not moved yet.
//!
//! Towards a target, where the proxy is the endpoint. A forwarder makes addresses and routes of the
//! context also on the proxy's side of the link, so only some of the target's values are passed on:
//! 2. `src` is the lease of the target, and VIPs: prefixes that the trench lists; without a list,
//!    host prefixes. An address of a node's subnet is never a VIP: it is a gateway's or the lease
//!    of another. A subnet is that of a gateway, old or new.
//! 3. `dst` is the lease of the proxy's port.
//! 4. Missing addresses of a lease are put in front, IPv4 first; duplicates are removed. A list in
//!    which nothing is missing, foreign or twice is left as it is, in its order.
//! 5. The gateways (`extra_prefixes`) are exactly ours. If they were others, the next hops of all
//!    policies become ours, by family.
//! 6. `dst_routes` are host routes to the target's own addresses. There are no `ip_neighbors`.
//! 7. `src_routes` and `policies` concern the target only. They stay if they can be parsed.
//! 8. `excluded_prefixes` refuse a new link whose lease overlaps one of them.
//!
//! A value that cannot be parsed is [`Reason::Invalid`].

mod addresses;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use ipnet::IpNet;

use crate::{
    api::{Dual, parse_prefix, pb::connectioncontext::IpContext},
    chain::Reason,
};

/// The addresses of a target's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    /// Addresses of the target.
    pub src: Dual<IpNet>,
    /// Addresses of the proxy's port.
    pub dst: Dual<IpNet>,
    /// Addresses of the bridge in the subnets of `src`.
    pub gateways: Dual<IpNet>,
}

impl Ours {
    /// The first address without a gateway: that of a target needs one in its subnet.
    pub(crate) fn without_gateway(&self) -> Option<IpNet> {
        let target = self
            .src
            .iter()
            .find(|(family, own)| {
                self.gateways.get(*family).is_none_or(|gateway| !gateway.contains(&own.addr()))
            })
            .or_else(|| self.dst.iter().find(|(family, _)| self.gateways.get(*family).is_none()));
        target.map(|(_, net)| *net)
    }
}

/// Rule 1.
pub(crate) fn client(ip: &mut IpContext, src_lease: &Dual<IpNet>, dst_lease: &Dual<IpNet>, former: &[IpNet]) {
    ip.src_ip_addrs = texts(dst_lease);
    ip.dst_ip_addrs = texts(src_lease);
    ip.dst_ip_addrs.extend(former.iter().map(ToString::to_string));
}

/// Rules 2 to 8. `vips` are those of the trench, sorted and without host bits, if a list of them is
/// known.
///
/// # Errors
/// [`Reason::Invalid`] with the value that cannot be parsed, [`Reason::Refused`] by rule 8. Nothing
/// has changed then.
pub(crate) fn endpoint(ip: &mut IpContext, ours: &Ours, vips: Option<&[IpNet]>) -> Result<(), Reason> {
    let src = read("src_ip_addrs", &ip.src_ip_addrs)?;
    let dst = read("dst_ip_addrs", &ip.dst_ip_addrs)?;
    let excluded = read("excluded_prefixes", &ip.excluded_prefixes)?;
    routes::check(ip)?;
    addresses::not_excluded(&src, ours, &excluded)?;
    let subnets = subnets(&ip.extra_prefixes, &ours.gateways);
    addresses::renew(&mut ip.src_ip_addrs, &src, &ours.src, |net| addresses::is_vip(net, vips, &subnets));
    addresses::renew(&mut ip.dst_ip_addrs, &dst, &ours.dst, |_| false);
    ip.ip_neighbors.clear();
    routes::to_the_target(&mut ip.dst_routes, &ours.src);
    let gateways: HashSet<IpNet> = ours.gateways.iter().map(|(_, net)| *net).collect();
    let present: HashSet<IpNet> =
        ip.extra_prefixes.iter().filter_map(|text| parse_prefix(text).ok()).collect();
    if present != gateways || ip.extra_prefixes.len() != gateways.len() {
        ip.extra_prefixes = texts(&ours.gateways);
        routes::redirect(ip, &ours.gateways);
    }
    Ok(())
}

/// Prefixes of a target that could be VIPs, but that the list does not have. Empty if there is no
/// list.
pub(crate) fn unlisted(ip: &IpContext, ours: &Ours, vips: Option<&[IpNet]>) -> Vec<IpNet> {
    let subnets = subnets(&ip.extra_prefixes, &ours.gateways);
    let own: Vec<IpNet> = ours.src.iter().map(|(_, net)| *net).collect();
    let sent = ip.src_ip_addrs.iter().filter_map(|text| parse_prefix(text).ok());
    let like_one = sent.filter(|net| !own.contains(net) && addresses::is_vip(net, None, &subnets));
    like_one.filter(|net| !addresses::is_vip(net, vips, &subnets)).collect()
}

/// The networks of all gateways, old and new. A host prefix is not a subnet.
fn subnets(old: &[String], new: &Dual<IpNet>) -> HashSet<IpNet> {
    let old = old.iter().filter_map(|text| parse_prefix(text).ok());
    let all = old.chain(new.iter().map(|(_, net)| *net));
    all.filter(|net| net.prefix_len() < net.max_prefix_len()).map(|net| net.trunc()).collect()
}

/// The prefixes of a list.
fn read(field: &str, list: &[String]) -> Result<Vec<IpNet>, Reason> {
    list.iter().map(|text| prefix(field, text)).collect()
}

fn prefix(field: &str, text: &str) -> Result<IpNet, Reason> {
    parse_prefix(text).map_err(|error| Reason::Invalid(format!("ip_context.{field}: {error}")))
}

/// As text, IPv4 first.
fn texts(nets: &Dual<IpNet>) -> Vec<String> {
    nets.iter().map(|(_, net)| net.to_string()).collect()
}
