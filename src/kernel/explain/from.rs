// SPDX-License-Identifier: Apache-2.0

//! The walk of a packet that a target sends, over the rules and our table to the load balancers.

use std::net::IpAddr;

use super::{
    Branch, Step, StepKind, View, Walk,
    to::{bridge, hop, sysctls},
};
use crate::{
    api::Family,
    kernel::{Action, Observed, Ours, Route, RouteTarget, Rule},
};

/// Numbers of the tables of every kernel.
mod table {
    pub(super) const DEFAULT: u32 = 253;
    pub(super) const MAIN: u32 = 254;
    pub(super) const LOCAL: u32 = 255;
}

/// The walk of a packet with this source that enters by the bridge.
pub(super) fn walk(view: &View, ours: &Ours, source: IpAddr) -> Walk {
    let family = Family::of(source);
    let mut steps = vec![bridge(view, ours)];
    let mut branches = Vec::new();
    if steps[0].dies.is_none() {
        steps.extend(sysctls(view, family));
    }
    if steps.iter().all(|step| step.dies.is_none()) {
        let route = rules(&view.observed, ours, source, &mut steps);
        let hops = route.and_then(Route::hops).into_iter().flatten();
        branches = hops.map(|next| Branch { steps: hop(view, ours, next.via) }).collect();
    }
    Walk::new(format!("from {source}"), steps, branches)
}

/// Follows the rules of the kernel in their order until one decides. Returns the route that is
/// taken; the last of `steps` has the reason if there is none.
fn rules<'a>(
    observed: &'a Observed,
    ours: &Ours,
    source: IpAddr,
    steps: &mut Vec<Step>,
) -> Option<&'a Route> {
    let family = Family::of(source);
    let mut rules: Vec<&Rule> = observed.rules.iter().filter(|rule| rule.family == family).collect();
    rules.sort_by_key(|rule| rule.priority);
    let mut at = 0;
    while let Some(rule) = rules.get(at) {
        at += 1;
        let from = rule.source.is_none_or(|net| net.contains(&source));
        let enters = rule.input.as_ref().is_none_or(|input| *input == ours.bridge);
        if !(from && enters) || rule.action == Action::Lookup(table::LOCAL) {
            continue;
        }
        let step = Step::new(StepKind::Rule, rule.to_string());
        match rule.action {
            Action::Goto(priority) => match rules.iter().position(|rule| rule.priority >= priority) {
                Some(to) if rules[to].priority == priority && to >= at => {
                    steps.push(step);
                    at = to;
                }
                _ => steps.push(step.note("no rule has this priority, so it is skipped")),
            },
            Action::Blackhole => {
                steps
                    .push(step.dies(format!("{source} is not a VIP: no rule leads to table {}", ours.table)));
                return None;
            }
            Action::Lookup(number) => {
                steps.push(step);
                if let Decision::Ends(route) = lookup(observed, ours, family, number, steps) {
                    return route;
                }
            }
        }
    }
    steps.push(Step::new(StepKind::Rule, "none is left").dies("no rule leads to a route"));
    None
}

/// The result of a look-up in a table.
enum Decision<'a> {
    /// The table has no route; the next rule decides.
    Continues,
    /// The packet takes this route, or is dropped.
    Ends(Option<&'a Route>),
}

fn lookup<'a>(
    observed: &'a Observed,
    ours: &Ours,
    family: Family,
    number: u32,
    steps: &mut Vec<Step>,
) -> Decision<'a> {
    if number != ours.table {
        if number == table::DEFAULT {
            return Decision::Continues;
        }
        let table = Step::new(StepKind::Table, number.to_string());
        steps.push(table.dies(match number {
            table::MAIN => "the packet leaves by the primary network: no rule before this one drops it",
            _ => "another program's table decides",
        }));
        return Decision::Ends(None);
    }
    let routes = observed.routes.iter().filter(|route| route.family == family);
    let Some(route) = routes.min_by_key(|route| route.metric) else {
        steps.push(Step::new(StepKind::Table, number.to_string()).note("no route"));
        return Decision::Continues;
    };
    let metric = route.metric;
    steps.push(match &route.target {
        RouteTarget::Hops(hops) => {
            let plural = if hops.len() == 1 { "" } else { "s" };
            Step::new(
                StepKind::Route,
                format!("default over {} next hop{plural}, table {number}", hops.len()),
            )
        }
        RouteTarget::Blackhole => {
            Step::new(StepKind::Route, format!("blackhole default metric {metric}, table {number}"))
                .dies("no load balancer is a next hop: none is connected, or none answers")
        }
        RouteTarget::Foreign => {
            Step::new(StepKind::Route, format!("default metric {metric}, table {number}"))
                .dies("another program's route decides")
        }
    });
    Decision::Ends(Some(route))
}
