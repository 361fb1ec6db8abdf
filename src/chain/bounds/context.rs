// SPDX-License-Identifier: Apache-2.0

//! Bounds of a connection's IP, DNS and Ethernet context.
//!
//! A target carries its VIPs in its addresses and policies, 20,000 at most: those two lists are
//! long. All others are short.

use prost::Message;

use super::within;
use crate::{
    api::pb::connectioncontext::{
        ConnectionContext, DnsContext, EthernetContext, IpContext, PolicyRoute, Route,
    },
    chain::Result,
};

/// Maximum number of entries of the lists that grow with the VIPs: addresses of the client, and
/// policies.
pub(crate) const VIPS: usize = 20_480;
/// Maximum number of entries of any other list.
pub(crate) const ENTRIES: usize = 1 << 10;
/// Maximum length in bytes of an address, a prefix, a next hop, a protocol, a port range or a MAC.
pub(crate) const TEXT: usize = 64;
/// Maximum length of a domain in bytes.
pub(crate) const DOMAIN: usize = 255;
/// Maximum size of the whole context in bytes. Twenty thousand VIPs take 1.8 MiB.
pub(crate) const CONTEXT: usize = 2 << 20;

pub(crate) fn check(context: &ConnectionContext) -> Result<()> {
    within("bytes of connection context", context.encoded_len(), CONTEXT)?;
    context.ip_context.as_ref().map_or(Ok(()), ip)?;
    context.dns_context.as_ref().map_or(Ok(()), dns)?;
    context.ethernet_context.as_ref().map_or(Ok(()), ethernet)
}

fn ip(ip: &IpContext) -> Result<()> {
    let policy_routes = ip.policies.iter().map(|policy| policy.routes.len()).sum();
    for (thing, found, limit) in [
        ("src_ip_addrs", ip.src_ip_addrs.len(), VIPS),
        ("policies", ip.policies.len(), VIPS),
        ("routes of policies", policy_routes, 2 * VIPS),
        ("dst_ip_addrs", ip.dst_ip_addrs.len(), ENTRIES),
        ("src_routes", ip.src_routes.len(), ENTRIES),
        ("dst_routes", ip.dst_routes.len(), ENTRIES),
        ("excluded_prefixes", ip.excluded_prefixes.len(), ENTRIES),
        ("ip_neighbors", ip.ip_neighbors.len(), ENTRIES),
        ("extra_prefixes", ip.extra_prefixes.len(), ENTRIES),
        ("requests for extra prefixes", ip.extra_prefix_request.len(), ENTRIES),
    ] {
        within(thing, found, limit)?;
    }
    let prefixes = [&ip.src_ip_addrs, &ip.dst_ip_addrs, &ip.excluded_prefixes, &ip.extra_prefixes];
    texts("bytes of an address or prefix", prefixes.into_iter().flatten())?;
    let routes = ip.src_routes.iter().chain(&ip.dst_routes);
    texts("bytes of a route", routes.flat_map(route))?;
    texts("bytes of a neighbor", ip.ip_neighbors.iter().flat_map(|n| [&n.ip, &n.hardware_address]))?;
    texts("bytes of a policy", ip.policies.iter().flat_map(policy))
}

fn route(route: &Route) -> [&String; 2] {
    [&route.prefix, &route.next_hop]
}

fn policy(policy: &PolicyRoute) -> impl Iterator<Item = &String> {
    let own = [&policy.from, &policy.proto, &policy.dst_port, &policy.src_port];
    own.into_iter().chain(policy.routes.iter().flat_map(route))
}

fn dns(dns: &DnsContext) -> Result<()> {
    within("DNS configurations", dns.configs.len(), ENTRIES)?;
    let servers = || dns.configs.iter().flat_map(|config| &config.dns_server_ips);
    let domains = || dns.configs.iter().flat_map(|config| &config.search_domains);
    within("DNS servers", servers().count(), ENTRIES)?;
    within("search domains", domains().count(), ENTRIES)?;
    texts("bytes of a DNS server", servers())?;
    domains().try_for_each(|domain| within("bytes of a search domain", domain.len(), DOMAIN))
}

fn ethernet(ethernet: &EthernetContext) -> Result<()> {
    texts("bytes of a MAC", [&ethernet.src_mac, &ethernet.dst_mac])
}

fn texts<'a>(thing: &str, texts: impl IntoIterator<Item = &'a String>) -> Result<()> {
    texts.into_iter().try_for_each(|text| within(thing, text.len(), TEXT))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::api::pb::connectioncontext::{DnsConfig, ExtraPrefixRequest, IpNeighbor};

    fn of_ip(ip_context: IpContext) -> ConnectionContext {
        ConnectionContext { ip_context: Some(ip_context), ..ConnectionContext::default() }
    }

    fn of_dns(config: DnsConfig, count: usize) -> ConnectionContext {
        let dns_context = Some(DnsContext { configs: vec![config; count] });
        ConnectionContext { dns_context, ..ConnectionContext::default() }
    }

    fn of_ethernet(ethernet: EthernetContext) -> ConnectionContext {
        ConnectionContext { ethernet_context: Some(ethernet), ..ConnectionContext::default() }
    }

    fn routes(count: usize) -> Vec<Route> {
        vec![Route::default(); count]
    }

    #[test]
    fn refuses_one_beyond_each_limit_and_accepts_the_limit() {
        let long = |n: usize| "n".repeat(n);
        type Make = fn(&dyn Fn(usize) -> String, usize) -> ConnectionContext;
        #[rustfmt::skip]
        let table: &[(Make, usize, &str)] = &[
            (|_, n| of_ip(IpContext { src_ip_addrs: vec![String::new(); n], ..Default::default() }), VIPS, "src_ip_addrs"),
            (|_, n| of_ip(IpContext { policies: vec![PolicyRoute::default(); n], ..Default::default() }), VIPS, "policies"),
            (|_, n| of_ip(IpContext { policies: vec![PolicyRoute { routes: routes(n), ..Default::default() }], ..Default::default() }), 2 * VIPS, "routes of policies"),
            (|_, n| of_ip(IpContext { dst_ip_addrs: vec![String::new(); n], ..Default::default() }), 1024, "dst_ip_addrs"),
            (|_, n| of_ip(IpContext { src_routes: routes(n), ..Default::default() }), 1024, "src_routes"),
            (|_, n| of_ip(IpContext { dst_routes: routes(n), ..Default::default() }), 1024, "dst_routes"),
            (|_, n| of_ip(IpContext { excluded_prefixes: vec![String::new(); n], ..Default::default() }), 1024, "excluded_prefixes"),
            (|_, n| of_ip(IpContext { ip_neighbors: vec![IpNeighbor::default(); n], ..Default::default() }), 1024, "ip_neighbors"),
            (|_, n| of_ip(IpContext { extra_prefixes: vec![String::new(); n], ..Default::default() }), 1024, "extra_prefixes"),
            (|_, n| of_ip(IpContext { extra_prefix_request: vec![ExtraPrefixRequest::default(); n], ..Default::default() }), 1024, "requests for extra prefixes"),
            (|s, n| of_ip(IpContext { dst_ip_addrs: vec![s(n)], ..Default::default() }), 64, "bytes of an address or prefix"),
            (|s, n| of_ip(IpContext { dst_routes: vec![Route { next_hop: s(n), ..Default::default() }], ..Default::default() }), 64, "bytes of a route"),
            (|s, n| of_ip(IpContext { ip_neighbors: vec![IpNeighbor { hardware_address: s(n), ..Default::default() }], ..Default::default() }), 64, "bytes of a neighbor"),
            (|s, n| of_ip(IpContext { policies: vec![PolicyRoute { proto: s(n), ..Default::default() }], ..Default::default() }), 64, "bytes of a policy"),
            (|_, n| of_dns(DnsConfig::default(), n), 1024, "DNS configurations"),
            (|_, n| of_dns(DnsConfig { dns_server_ips: vec![String::new(); n], ..Default::default() }, 1), 1024, "DNS servers"),
            (|_, n| of_dns(DnsConfig { search_domains: vec![String::new(); n], ..Default::default() }, 1), 1024, "search domains"),
            (|s, n| of_dns(DnsConfig { dns_server_ips: vec![s(n)], ..Default::default() }, 1), 64, "bytes of a DNS server"),
            (|s, n| of_dns(DnsConfig { search_domains: vec![s(n)], ..Default::default() }, 1), 255, "bytes of a search domain"),
            (|s, n| of_ethernet(EthernetContext { dst_mac: s(n), ..Default::default() }), 64, "bytes of a MAC"),
        ];
        for (make, limit, thing) in table {
            assert!(check(&make(&long, *limit)).is_ok(), "{thing}: the limit itself");
            let error = check(&make(&long, limit + 1)).unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
            let text = error.to_string();
            let expected = [format!("has {} {thing}", limit + 1), format!("(at most {limit})")];
            assert!(expected.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn the_whole_context_is_bounded_and_twenty_thousand_vips_fit() {
        let hop = Route { prefix: "::/0".into(), next_hop: "fd00:0:0:1::1".into() };
        let vip = |n: usize| format!("2001:db8:20::{n:x}/128");
        let carries = IpContext {
            src_ip_addrs: (0..20_000).map(vip).collect(),
            policies: (0..20_000)
                .map(|n| PolicyRoute { from: vip(n), routes: vec![hop.clone()], ..PolicyRoute::default() })
                .collect(),
            ..IpContext::default()
        };
        check(&of_ip(carries)).unwrap();
        let long = || "a".repeat(TEXT);
        let route = Route { prefix: long(), next_hop: long() };
        let full = PolicyRoute { from: long(), routes: vec![route], ..PolicyRoute::default() };
        let full = IpContext { policies: vec![full; VIPS], ..IpContext::default() };
        let text = check(&of_ip(full)).unwrap_err().to_string();
        assert!(text.contains("bytes of connection context (at most 2097152)"), "{text}");
    }
}
