// SPDX-License-Identifier: Apache-2.0
//! Follows one Request of a target that is built on NSM's Go sdk, in a real OpenTelemetry
//! collector: target, nsmgr, the proxy and its calls to IPAM are one tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Run, bring_up, eventually, exported, verdict::Verdict};
use crate::{
    control_plane::{
        collector::{Collector, Span},
        peers,
    },
    error::LabError,
    topology::proxy_service,
    world::World,
};

/// Timeout of the collector's start.
const START: Duration = Duration::from_secs(30);
/// Timeout of the client, and of the export of its spans.
const DONE: Duration = Duration::from_secs(30);
/// Name of the proxy in its spans.
pub(super) const PROXY: &str = "meridio-proxy";
/// Name of the Go target in its spans.
const TARGET: &str = "client";
/// Name of the spans of a call to IPAM.
const ALLOCATE: &str = "ipam.v1.Ipam/Allocate";

/// Brings everything up, and connects the target.
pub(super) async fn story(run: &mut Run) -> Result<(), LabError> {
    eventually("the collector listens", START, async || {
        if Collector::listens() { Ok(()) } else { Err("no socket".into()) }
    })
    .await?;
    bring_up::everything(run).await?;
    let pod = run.world.guest("go-target").await?;
    let World { control, agent, .. } = &mut run.world;
    let mut client = peers::start_client(&pod, &control.target, agent, &proxy_service())?;
    eventually(
        "the Go target is done",
        DONE,
        async || if client.is_running() { Err(client.tail(5)) } else { Ok(()) },
    )
    .await?;

    let mut seen = Vec::new();
    let waited = eventually("both traces are complete", DONE, async || {
        seen = run.world.collector.as_ref().map(Collector::spans).unwrap_or_default();
        trace_of_target(&seen)?;
        trace_of_load_balancer(&seen).map(drop)
    })
    .await;
    if let Err(error) = &waited {
        eprintln!("{error:?}");
    }
    run.judge(verdict("one Request of a Go target is one tree", trace_of_target(&seen)));
    run.judge(verdict("a Request to a load balancer is one tree", trace_of_load_balancer(&seen)));
    exported::judge(run).await
}

fn verdict(name: &str, found: Result<Tree, String>) -> Verdict {
    match found {
        Ok(tree) => tree
            .spans
            .iter()
            .fold(Verdict::new(name, true), |verdict, (service, count)| verdict.figure(service, *count)),
        Err(why) => Verdict::new(name, false).figure("because", why),
    }
}

/// A connected trace: the number of spans of each service.
#[derive(Debug, PartialEq, Eq)]
struct Tree {
    spans: BTreeMap<String, usize>,
}

/// The Request of the target begins in the target, reaches the proxy's endpoint chain below a span
/// of nsmgr, and the call to IPAM is below that.
fn trace_of_target(spans: &[Span]) -> Result<Tree, String> {
    let request = request(spans, |span| {
        span.attributes.get("network_service").is_some_and(|service| *service == proxy_service())
            && spans.iter().any(|other| other.trace == span.trace && other.service == TARGET)
    })?;
    let (tree, members) = tree(spans, &request.trace)?;
    let above = ancestors(&members, request);
    if !above.iter().any(|span| span.service == "nsmgr") {
        return Err("no span of nsmgr is above the proxy's".into());
    }
    match above.last() {
        Some(root) if root.service == TARGET => {}
        root => return Err(format!("the root is {root:?}, not a span of the target")),
    }
    below(&members, request, ALLOCATE)?;
    Ok(tree)
}

/// The Request to a load balancer begins in the proxy's client chain, with a call to IPAM and a
/// span of nsmgr below it.
fn trace_of_load_balancer(spans: &[Span]) -> Result<Tree, String> {
    let request = request(spans, |span| {
        span.parent.is_empty()
            && span.attributes.get("network_service").is_some_and(|service| *service != proxy_service())
    })?;
    let (tree, members) = tree(spans, &request.trace)?;
    below(&members, request, ALLOCATE)?;
    let of_nsmgr = members.values().find(|span| span.service == "nsmgr");
    let of_nsmgr = of_nsmgr.ok_or("no span of nsmgr is in the trace")?;
    if !ancestors(&members, of_nsmgr).iter().any(|span| span.id == request.id) {
        return Err("the span of nsmgr is not below the proxy's".into());
    }
    Ok(tree)
}

/// The span of a Request in a chain of the proxy.
fn request(spans: &[Span], is: impl Fn(&Span) -> bool) -> Result<&Span, String> {
    let found = spans.iter().find(|span| span.service == PROXY && span.name == "Request" && is(span));
    found.ok_or_else(|| {
        let names: BTreeSet<_> = spans.iter().map(|span| (&span.service, &span.name)).collect();
        format!("the proxy has no such Request among {names:?}")
    })
}

/// All spans of a trace by their ids, if they have one root.
fn tree<'a>(spans: &'a [Span], trace: &str) -> Result<(Tree, BTreeMap<&'a str, &'a Span>), String> {
    let of_trace = spans.iter().filter(|span| span.trace == trace);
    let members: BTreeMap<_, _> = of_trace.map(|span| (span.id.as_str(), span)).collect();
    let roots: Vec<_> = members.values().filter(|span| !members.contains_key(span.parent.as_str())).collect();
    if roots.len() != 1 || !roots[0].parent.is_empty() {
        let names: Vec<_> = roots.iter().map(|root| format!("{}: {}", root.service, root.name)).collect();
        return Err(format!("{} spans have no parent in the trace: {names:?}", roots.len()));
    }
    let mut counts = BTreeMap::new();
    for span in members.values() {
        *counts.entry(span.service.clone()).or_default() += 1;
    }
    Ok((Tree { spans: counts }, members))
}

/// The spans above a span, up to the root.
fn ancestors<'a>(members: &BTreeMap<&'a str, &'a Span>, of: &Span) -> Vec<&'a Span> {
    let parent = |span: &Span| members.get(span.parent.as_str()).copied();
    let mut above: Vec<&Span> = parent(of).into_iter().collect();
    while let Some(next) = above.last().and_then(|span| parent(span))
        && above.len() < members.len()
    {
        above.push(next);
    }
    above
}

/// A span of this name is below another.
fn below(members: &BTreeMap<&str, &Span>, top: &Span, name: &str) -> Result<(), String> {
    let named = || members.values().filter(|span| span.name == name);
    let found = named().any(|span| ancestors(members, span).iter().any(|above| above.id == top.id));
    match found {
        true => Ok(()),
        false => Err(format!("{name} is not below the Request; the trace has {} of it", named().count())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(service: &str, id: &str, parent: &str, name: &str) -> Span {
        let [service, id, parent, name] = [service, id, parent, name].map(str::to_owned);
        let attributes = [("network_service".to_owned(), proxy_service())].into();
        Span { service, name, trace: "1".into(), id, parent, attributes }
    }

    fn whole() -> Vec<Span> {
        vec![
            span(TARGET, "a", "", "client"),
            span("nsmgr", "b", "a", "server"),
            span(PROXY, "c", "b", "Request"),
            span(PROXY, "d", "c", "ipam"),
            span(PROXY, "e", "d", ALLOCATE),
        ]
    }

    #[test]
    fn a_trace_is_judged_by_the_table() {
        let without = |id: &str| whole().into_iter().filter(|span| span.id != id).collect::<Vec<_>>();
        let with_parent = |id: &str, parent: &str| {
            whole()
                .into_iter()
                .map(|span| match span.id == id {
                    true => Span { parent: parent.to_owned(), ..span },
                    false => span,
                })
                .collect::<Vec<_>>()
        };
        let table = [
            (without("c"), "no such Request"),
            (without("a"), "no such Request"),
            (without("b"), "2 spans have no parent"),
            (without("e"), "is not below"),
            (with_parent("c", "a"), "no span of nsmgr is above"),
            (with_parent("d", "b"), "is not below"),
            (with_parent("a", "x"), "1 spans have no parent"),
        ];
        let spans = trace_of_target(&whole()).map(|tree| tree.spans);
        assert_eq!(spans, Ok([(TARGET, 1), ("nsmgr", 1), (PROXY, 3)].map(|(s, n)| (s.to_owned(), n)).into()));
        for (spans, why) in table {
            let found = trace_of_target(&spans);
            assert!(found.as_ref().is_err_and(|error| error.contains(why)), "{why}: {found:?}");
        }
    }
}
