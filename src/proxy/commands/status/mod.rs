// SPDX-License-Identifier: Apache-2.0

//! `proxy status`: whether the proxy is well, and if not, why and what to do next.

mod problems;

use std::fmt::Write;

use serde_json::json;

use self::problems::{Problem, problems};
use super::{
    inspect::named,
    output::{Colour, Style, Table, cell, printable},
    read::Report,
};
use crate::proxy::{
    health::{LIVENESS, READINESS},
    log::Event,
    state::Document,
};

/// Exit code if the proxy is not ready.
const NOT_READY: u8 = 1;
/// Problems that a screen shows.
const SHOWN: usize = 8;
/// Events that it shows, so that a fault that is over is seen, too.
const LATEST: usize = 3;
/// Maximum length of an event, in characters.
const LONGEST: usize = 160;

/// A summary on one screen.
pub(super) fn answer(document: &Document, style: Style) -> Report {
    let ready = serving(document, READINESS);
    let problems = problems(document);
    let state = match (ready, problems.is_empty()) {
        (true, true) => "well",
        (true, false) => "degraded",
        (false, _) => "not ready",
    };
    let listed: Vec<_> = problems.iter().map(Problem::json).collect();
    let json = json!({
        "state": state,
        "ready": ready,
        "live": serving(document, LIVENESS),
        "problems": listed,
        "latest": latest(document).collect::<Vec<_>>(),
    });
    let text = text(document, state, &problems, style);
    Report { text, json, code: if ready { 0 } else { NOT_READY } }
}

/// The time, the message, the cause and the fields of an event, cut.
fn line(event: &Event) -> String {
    let cause = event.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
    let fields = event.fields.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!(" {name}={text}"),
        None => format!(" {name}={value}"),
    });
    let whole = format!("{} {}{cause}{}", event.time, event.message, fields.collect::<String>());
    match whole.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// The newest events, the last one first.
fn latest(document: &Document) -> impl Iterator<Item = &Event> {
    document.events.iter().rev().take(LATEST)
}

fn serving(document: &Document, service: &str) -> bool {
    document.health.iter().any(|verdict| verdict.name == service && verdict.serving)
}

fn text(document: &Document, state: &str, problems: &[Problem], style: Style) -> String {
    let conduit = &document.conduit;
    let colour = match state {
        "well" => Colour::Green,
        "degraded" => Colour::Yellow,
        _ => Colour::Red,
    };
    let title = format!(
        "{} on {}, conduit {} of trench {}",
        conduit.proxy,
        or_unknown(&conduit.node),
        conduit.conduit,
        conduit.trench
    );
    let mut text = format!("{}: {}\n\n{}", printable(&title), style.paint(colour, state), facts(document));
    for (number, problem) in problems.iter().take(SHOWN).enumerate() {
        let what =
            style.paint(if problem.severe { Colour::Red } else { Colour::Yellow }, printable(&problem.what));
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\n{}. {what}\n   next: {}\n", number + 1, problem.next);
    }
    if problems.len() > SHOWN {
        let _infallible = writeln!(text, "\n… and {} more: --json lists them", problems.len() - SHOWN);
    }
    text
}

fn or_unknown(name: &str) -> &str {
    if name.is_empty() { "an unknown node" } else { name }
}

/// A line for each part.
fn facts(document: &Document) -> Table {
    let mut table = Table::new(Style::PLAIN);
    let process = &document.process;
    table.row([
        cell("process"),
        cell(format_args!(
            "version {}, pid {}, up {}",
            process.version,
            process.pid,
            span(process.uptime_seconds)
        )),
    ]);
    if let Some(step) = &document.start.step {
        table.row([cell("start"), cell(step)]);
    }
    if let Some(mesh) = &document.mesh {
        let all = &mesh.load_balancers;
        let carrying = all.iter().filter(|peer| peer.next_hops.iter().any(|hop| hop.installed)).count();
        table.row([cell("load balancers"), cell(format_args!("{carrying} of {} carry packets", all.len()))]);
    }
    table.row([cell("targets"), cell(document.targets.len())]);
    if let Some(vips) = &document.vips {
        table.row([
            cell("VIPs"),
            cell(if vips.known { vips.count.to_string() } else { "unknown".to_owned() }),
        ]);
    }
    let services: Vec<_> = named(document)
        .map(|(name, service)| format!("{name} {}", if service.up { "up" } else { "down" }))
        .collect();
    if !services.is_empty() {
        table.row([cell("services"), cell(services.join(", "))]);
    }
    if let Some(identity) = &document.identity {
        let expires = identity.expires_in_seconds.map(span);
        let id = identity.id.as_deref().unwrap_or("none");
        table.row([
            cell("identity"),
            cell(format_args!("{id}, valid for {}", expires.as_deref().unwrap_or("-"))),
        ]);
    }
    for (number, event) in latest(document).enumerate() {
        table.row([cell(if number == 0 { "latest" } else { "" }), cell(line(event))]);
    }
    if let Some(kernel) = &document.kernel {
        let state = match kernel.difference.len() {
            0 => "as declared".to_owned(),
            1 => "1 difference".to_owned(),
            differences => format!("{differences} differences"),
        };
        table.row([cell("kernel"), cell(state)]);
    }
    table
}

/// A span of time in its two largest units.
fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, length) in units {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests;
