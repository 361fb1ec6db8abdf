// SPDX-License-Identifier: Apache-2.0

//! The addresses and host routes of an IP context, by the rules of [the element](super).

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{Groups, pool::Pair};
use crate::api::{
    Family, parse_prefix, parse_prefixes,
    pb::connectioncontext::{IpContext, Route},
};

/// Writes the pairs into the IP context of a Request (rules 5 to 7).
pub(super) fn write(ip: &mut IpContext, groups: &Groups, strict: bool, pairs: &[Arc<Pair>]) {
    let clients: Vec<String> = pairs.iter().map(|pair| host(pair.src)).collect();
    let endpoints: Vec<String> = pairs.iter().map(|pair| host(pair.dst)).collect();
    let stays = Stays { groups, strict };
    ip.src_ip_addrs.retain(|text| stays.address(text, &clients));
    ip.dst_ip_addrs.retain(|text| stays.address(text, &endpoints));
    ip.src_routes.retain(|route| stays.route(&route.prefix, &endpoints));
    ip.dst_routes.retain(|route| stays.route(&route.prefix, &clients));
    for (client, endpoint) in clients.into_iter().zip(endpoints) {
        add_route(&mut ip.src_routes, &endpoint);
        add_route(&mut ip.dst_routes, &client);
        add(&mut ip.src_ip_addrs, client);
        add(&mut ip.dst_ip_addrs, endpoint);
    }
}

/// Decides which entries of a Request stay.
struct Stays<'a> {
    groups: &'a Groups,
    strict: bool,
}

impl Stays<'_> {
    fn address(&self, text: &str, own: &[String]) -> bool {
        match parse_prefix(text) {
            Ok(net) if self.groups.contain(net.addr()) => own.iter().any(|own| own == text),
            _ => !self.strict,
        }
    }

    fn route(&self, text: &str, own: &[String]) -> bool {
        match parse_prefix(text) {
            Ok(net) if is_host(&net) && self.groups.contain(net.addr()) => own.iter().any(|own| own == text),
            _ => !self.strict,
        }
    }
}

/// The addresses among some texts that are not excluded.
pub(super) fn usable(texts: &[String], excluded: &[IpNet]) -> Vec<IpAddr> {
    let addresses = parse_prefixes(texts).into_iter().map(|net| net.addr());
    addresses.filter(|address| !excluded.iter().any(|net| net.contains(address))).collect()
}

fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == Family::of_net(net).bits()
}

fn host(address: IpAddr) -> String {
    IpNet::from(address).to_string()
}

fn add(addresses: &mut Vec<String>, address: String) {
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}

fn add_route(routes: &mut Vec<Route>, prefix: &str) {
    if !routes.iter().any(|route| route.prefix == prefix) {
        routes.push(Route { prefix: prefix.to_owned(), ..Route::default() });
    }
}
