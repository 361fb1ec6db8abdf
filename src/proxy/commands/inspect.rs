// SPDX-License-Identifier: Apache-2.0

//! `proxy inspect`: a part of the state as a table.

use std::fmt::Display;

use serde_json::{Value, json};

use super::{
    output::{Cell, Colour, Style, Table, cell},
    read::Report,
};
use crate::proxy::state::{Answer, Document, Hop, Leases, Service};

/// A part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Links,
    Connections,
    NextHops,
    Vips,
    Leases,
    Services,
    Events,
}

impl Part {
    /// Every part.
    pub(super) const ALL: [Part; 7] = [
        Part::Links,
        Part::Connections,
        Part::NextHops,
        Part::Vips,
        Part::Leases,
        Part::Services,
        Part::Events,
    ];

    /// Its name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Part::Links => "links",
            Part::Connections => "connections",
            Part::NextHops => "next-hops",
            Part::Vips => "vips",
            Part::Leases => "leases",
            Part::Services => "services",
            Part::Events => "events",
        }
    }
}

/// A part as a table.
pub(super) fn answer(part: Part, document: &Document, style: Style) -> Report {
    let mut table = Table::new(style);
    let json = match part {
        Part::Links => links(document, &mut table),
        Part::Connections => connections(document, &mut table),
        Part::NextHops => next_hops(document, &mut table),
        Part::Vips => vips(document, &mut table),
        Part::Leases => return leases(document, table, style),
        Part::Services => services(document, &mut table),
        Part::Events => events(document, &mut table),
    };
    Report { text: table.to_string(), json, code: 0 }
}

/// Green if it is as desired, red otherwise.
fn state(well: bool, text: impl Display) -> Cell {
    cell(text).painted(if well { Colour::Green } else { Colour::Red })
}

fn or_dash(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("-")
}

fn links(document: &Document, table: &mut Table) -> Value {
    table.head(["LINK", "STATE", "ROLE", "CONNECTION", "CONNECTED", "ERROR"]);
    let balancers = document.mesh.iter().flat_map(|mesh| &mesh.load_balancers);
    for peer in balancers {
        let connected = state(peer.state == "connected", &peer.state);
        let error = or_dash(peer.error.as_deref());
        for link in &peer.links {
            let attachment = state(link.state == "running", &link.state);
            table.row([
                cell(&link.name),
                attachment,
                cell("load-balancer"),
                cell(&peer.name),
                connected.clone(),
                cell(error),
            ]);
        }
        if peer.links.is_empty() {
            table.row([
                cell("-"),
                cell("-"),
                cell("load-balancer"),
                cell(&peer.name),
                connected,
                cell(error),
            ]);
        }
    }
    for target in &document.targets {
        let connected = if target.adopted { "adopted" } else { "connected" };
        for link in &target.links {
            let attachment = state(link.state == "running", &link.state);
            table.row([
                cell(&link.name),
                attachment,
                cell("target"),
                cell(&target.connection),
                cell(connected),
                cell("-"),
            ]);
        }
    }
    json!({"mesh": document.mesh, "targets": document.targets})
}

fn connections(document: &Document, table: &mut Table) -> Value {
    table.head(["CONNECTION", "ROLE", "SINCE", "REFRESHES", "HEALS", "EXPIRES", "PATH"]);
    for peer in document.mesh.iter().flat_map(|mesh| &mesh.load_balancers) {
        let answer = peer.answer.as_ref();
        let number = |of: fn(&Answer) -> u64| answer.map_or_else(|| "-".to_owned(), |it| of(it).to_string());
        table.row([
            cell(&peer.name),
            cell("load-balancer"),
            cell(or_dash(answer.map(|answer| answer.since.as_str()))),
            cell(number(|answer| answer.refreshes)),
            cell(number(|answer| answer.heals)),
            cell(or_dash(answer.and_then(|answer| answer.expires.as_deref()))),
            cell(path(answer.map(|answer| answer.path.as_slice()).unwrap_or_default())),
        ]);
    }
    for target in &document.targets {
        table.row([
            cell(&target.connection),
            cell("target"),
            cell(or_dash(target.since.as_deref())),
            cell(target.refreshes),
            cell("-"),
            cell(or_dash(target.expires.as_deref())),
            cell(path(&target.path)),
        ]);
    }
    json!({"mesh": document.mesh, "targets": document.targets})
}

/// The names of the hops of a path.
fn path(hops: &[Hop]) -> String {
    let names: Vec<_> = hops.iter().map(|hop| hop.name.as_str()).collect();
    or_dash(Some(&names.join(" > "))).to_owned()
}

fn next_hops(document: &Document, table: &mut Table) -> Value {
    table.head(["NEXT-HOP", "INSTALLED", "ANSWERS", "RTT", "LOAD-BALANCER", "LEFT-OUT-BECAUSE"]);
    let balancers = document.mesh.iter().flat_map(|mesh| &mesh.load_balancers);
    for (peer, hop) in balancers.flat_map(|peer| peer.next_hops.iter().map(move |hop| (peer, hop))) {
        let installed = state(hop.installed, if hop.installed { "yes" } else { "no" });
        let answers = match hop.answers {
            Some(true) => state(true, "yes"),
            Some(false) => state(false, "no"),
            None => cell("unknown"),
        };
        table.row([
            cell(hop.address),
            installed,
            answers,
            cell(hop.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("<={rtt}ms"))),
            cell(&peer.name),
            cell(or_dash(hop.withheld.as_deref())),
        ]);
    }
    json!(document.mesh)
}

fn vips(document: &Document, table: &mut Table) -> Value {
    table.head(["VIP"]);
    if let Some(vips) = &document.vips {
        vips.list.iter().for_each(|vip| table.row([cell(vip)]));
        let left = vips.count.saturating_sub(vips.list.len());
        if left > 0 {
            table.row([cell(format_args!("… and {left} more"))]);
        }
    }
    json!(document.vips)
}

/// The numbers of leases, then the leases one by one.
fn leases(document: &Document, mut table: Table, style: Style) -> Report {
    table.head(["LEASES", "NUMBER"]);
    let mut text = String::new();
    if let Some(leases) = &document.leases {
        table.row([cell("held"), cell(leases.held)]);
        table.row([cell("wanted"), cell(leases.wanted)]);
        table.row([cell("releasing"), cell(leases.releasing)]);
        table.row([cell("unverified"), cell(leases.unverified)]);
        table.row([cell("moved"), cell(leases.moved.len())]);
        table.row([cell("failed calls"), cell(leases.failures)]);
        for (subnet, count) in &leases.subnets {
            table.row([cell(format_args!("in {subnet}")), cell(count)]);
        }
        if !leases.list.is_empty() {
            text = format!("\n{}", one_by_one(leases, style));
        }
    }
    Report { text: format!("{table}{text}"), json: json!(document.leases), code: 0 }
}

fn one_by_one(leases: &Leases, style: Style) -> Table {
    let mut table = Table::new(style);
    table.head(["LEASE", "STATE", "HOLDERS", "ADDRESSES"]);
    for lease in &leases.list {
        let is_well = lease.state == "held" && lease.moved.is_empty() && !lease.unverified;
        let name = if lease.unverified { "unverified" } else { &lease.state };
        let standing = if is_well { state(true, name) } else { cell(name).painted(Colour::Yellow) };
        table.row([
            cell(&lease.name),
            standing,
            cell(lease.holders),
            cell(or_dash(Some(&lease.addresses.join(" ")))),
        ]);
    }
    let left = (leases.wanted + leases.held + leases.releasing).saturating_sub(leases.list.len());
    if left > 0 {
        table.row([cell(format_args!("… and {left} more"))]);
    }
    table
}

/// The services with their names.
pub(super) fn named(document: &Document) -> impl Iterator<Item = (&'static str, &Service)> {
    let all = &document.services;
    let services =
        [("IPAM", &all.ipam), ("NSP", &all.nsp), ("nsmgr", &all.nsmgr), ("registry", &all.registry)];
    services.into_iter().filter_map(|(name, service)| Some((name, service.as_ref()?)))
}

fn services(document: &Document, table: &mut Table) -> Value {
    table.head(["SERVICE", "STATE", "SINCE", "ADDRESS", "LAST-ERROR"]);
    for (name, service) in named(document) {
        let up = state(service.up, if service.up { "up" } else { "down" });
        table.row([
            cell(name),
            up,
            cell(or_dash(service.since.as_deref())),
            cell(&service.address),
            cell(or_dash(service.last_error.as_deref())),
        ]);
    }
    json!(document.services)
}

fn events(document: &Document, table: &mut Table) -> Value {
    table.head(["TIME", "LEVEL", "PART", "MESSAGE", "CAUSE"]);
    for event in &document.events {
        let level = match event.level.as_str() {
            "info" => cell(&event.level),
            "warning" => cell(&event.level).painted(Colour::Yellow),
            _ => cell(&event.level).painted(Colour::Red),
        };
        let cause = or_dash(event.cause.as_deref());
        table.row([cell(&event.time), level, cell(&event.part), cell(&event.message), cell(cause)]);
    }
    json!(document.events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::commands::sample;

    fn text(part: Part, document: &Document) -> String {
        answer(part, document, Style::PLAIN).text
    }

    #[test]
    fn each_part_is_a_table_of_its_objects() {
        let mut document = sample::well();
        let table = [
            (Part::Links, "nsm-1  running  load-balancer  lb-1        connected  -\n"),
            (Part::Links, "nsm-9  running  target         target-1    connected  -\n"),
            (Part::NextHops, "172.16.0.2  yes        yes      <=10ms  lb-1           -\n"),
            (Part::Vips, "20.0.0.1/32\n"),
            (Part::Leases, "held              7\n"),
            (Part::Leases, "\nbridge        held   1        172.16.0.1/24\n"),
            (
                Part::Connections,
                "lb-1        load-balancer  2029-12-31T20:57:05.000Z  9          1      2030-01-01T00:10:00.000Z  px > nsmgr > lb-1\n",
            ),
            (
                Part::Connections,
                "target-1    target         2029-12-31T20:58:00.000Z  3          -      -                         -\n",
            ),
            (Part::Services, "nsmgr     up     -      unix:///var/lib/networkservicemesh/nsm.io.sock  -\n"),
            (Part::Events, "warning  kernel  degraded  load balancer px-lb-2: next hop"),
        ];
        for (part, row) in table {
            assert!(text(part, &document).contains(row), "{}", text(part, &document));
        }
        let vips = document.vips.as_mut().unwrap();
        vips.count = 1000;
        assert!(text(Part::Vips, &document).ends_with("… and 999 more\n"));
    }

    #[test]
    fn a_state_without_parts_has_the_heads_alone() {
        let document = sample::starting();
        for part in Part::ALL {
            assert_eq!(text(part, &document).lines().count(), 1, "{part:?}");
        }
    }

    #[test]
    fn colours_do_not_move_the_columns() {
        let document = sample::well();
        let coloured = answer(Part::Links, &document, Style::COLOURED).text;
        let plain = coloured.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(plain, text(Part::Links, &document));
        assert_ne!(plain, coloured);
    }
}
