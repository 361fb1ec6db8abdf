// SPDX-License-Identifier: Apache-2.0

//! Routes and policies of a target.

use std::net::IpAddr;

use ipnet::IpNet;

use super::prefix;
use crate::{
    api::{
        Dual, Family, parse_prefix,
        pb::connectioncontext::{IpContext, PolicyRoute, Route},
    },
    chain::Reason,
};

/// Rule 7.
pub(super) fn check(ip: &IpContext) -> Result<(), Reason> {
    ip.src_routes.iter().try_for_each(|route| check_route("src_routes", route))?;
    ip.policies.iter().try_for_each(check_policy)
}

fn check_route(field: &str, route: &Route) -> Result<(), Reason> {
    if !route.prefix.is_empty() {
        prefix(&format!("{field}.prefix"), &route.prefix)?;
    }
    match route.next_hop.is_empty() || route.next_hop.parse::<IpAddr>().is_ok() {
        true => Ok(()),
        false => Err(invalid(&format!("{field}.next_hop"), &route.next_hop, "an address, or nothing")),
    }
}

fn check_policy(policy: &PolicyRoute) -> Result<(), Reason> {
    if !policy.from.is_empty() {
        prefix("policies.from", &policy.from)?;
    }
    for (field, ports) in [("policies.dst_port", &policy.dst_port), ("policies.src_port", &policy.src_port)] {
        if !are_ports(ports) {
            return Err(invalid(field, ports, "a port, two ports with a dash between them, or nothing"));
        }
    }
    policy.routes.iter().try_for_each(|route| check_route("policies.routes", route))
}

fn are_ports(text: &str) -> bool {
    text.is_empty() || text.splitn(2, '-').all(|port| port.parse::<u16>().is_ok())
}

fn invalid(field: &str, value: &str, accepted: &str) -> Reason {
    let value: String = value.chars().take(64).collect();
    Reason::Invalid(format!("ip_context.{field}: `{value}` (accepted: {accepted})"))
}

/// Rule 6.
pub(super) fn to_the_target(routes: &mut Vec<Route>, lease: &Dual<IpNet>) {
    routes.retain(|route| {
        let host = parse_prefix(&route.prefix).ok().filter(|net| net.prefix_len() == net.max_prefix_len());
        let own = host.is_some_and(|net| lease.iter().any(|(_, own)| own.addr() == net.addr()));
        own && route.next_hop.is_empty()
    });
}

/// Second half of rule 5.
pub(super) fn redirect(ip: &mut IpContext, gateways: &Dual<IpNet>) {
    for route in ip.policies.iter_mut().flat_map(|policy| &mut policy.routes) {
        let towards = parse_prefix(&route.prefix).or_else(|_| parse_prefix(&route.next_hop));
        if let Some(gateway) = towards.ok().and_then(|net| gateways.get(Family::of_net(&net))) {
            route.next_hop = gateway.addr().to_string();
        }
    }
}
