// SPDX-License-Identifier: Apache-2.0

//! Takes a snapshot of a namespace, to compare it with a later one.

use rtnetlink::packet_route::{
    RouteNetlinkMessage::{self, NewAddress, NewLink, NewRoute, NewRule},
    address::AddressAttribute,
    link::{AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkInfo},
    route::RouteAttribute,
};

use super::{addresses, links, routes, rules};
use crate::api::Family;

/// Links, addresses, rules and routes with all their attributes, except counters and times.
pub fn snapshot() -> Vec<RouteNetlinkMessage> {
    let mut all = Vec::new();
    for mut link in links::messages() {
        link.attributes.retain_mut(stays_of_link);
        all.push(NewLink(link));
    }
    for mut address in addresses::messages() {
        address.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::CacheInfo(_)));
        all.push(NewAddress(address));
    }
    for mut route in Family::BOTH.into_iter().flat_map(routes::messages) {
        route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
        all.push(NewRoute(route));
    }
    all.extend(rules::messages().into_iter().map(NewRule));
    all
}

/// Whether an attribute changes only with the link. Removes its parts that change by themselves:
/// bridges and their ports count timers down.
fn stays_of_link(attribute: &mut LinkAttribute) -> bool {
    match attribute {
        LinkAttribute::Stats(_) | LinkAttribute::Stats64(_) => return false,
        LinkAttribute::LinkInfo(infos) => {
            infos.retain(|info| !matches!(info, LinkInfo::Data(_) | LinkInfo::PortData(_)));
        }
        LinkAttribute::AfSpecUnspec(families) => {
            for family in families {
                if let AfSpecUnspec::Inet6(facts) = family {
                    use AfSpecInet6::{CacheInfo, Icmp6Stats, Stats};
                    facts.retain(|fact| !matches!(fact, CacheInfo(_) | Stats(_) | Icmp6Stats(_)));
                }
            }
        }
        _ => {}
    }
    true
}

#[test]
fn a_snapshot_shows_a_change_of_each_kind() {
    use super::{MAIN, Rule, add_address, add_route, add_rule, change_link};
    type Change = (&'static str, fn());
    let changes: [Change; 5] = [
        ("alias", || change_link("lo", |lo| lo.alias("other"))),
        ("address", || add_address("lo", "10.0.0.1/24")),
        ("route", || add_route(MAIN, &[("10.0.0.2", None)])),
        ("rule", || add_rule(&Rule::lookup(0, "2000::1/128", 1))),
        ("state", || change_link("lo", |lo| lo.down())),
    ];
    crate::kernel::tests::netns::in_netns(move || async move {
        for (what, change) in changes {
            let before = snapshot();
            assert_eq!(snapshot(), before);
            change();
            assert_ne!(snapshot(), before, "{what}");
        }
    });
}
