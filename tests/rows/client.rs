// SPDX-License-Identifier: Apache-2.0

//! Checks the purpose of each row of the client chain, at a load balancer and in the kernel.

use nsm::api::{Connection, Mechanism};

use crate::rig::{Checked, MTU, Rig, Seen, ask, eventually, holds, request};

/// Row, and the promise that breaks without it. In the order of the chain.
pub(crate) const ROWS: &[(&str, &str)] = &[
    ("trace", "a call has a span"),
    ("update_path", "the load balancer sees a segment of the proxy"),
    ("begin", "what a Request declares stays true after it"),
    ("metadata", "a refresh that fails leaves the state of the last good one"),
    ("answers", "an observer sees the answer with its path"),
    ("refresh", "the connection is refreshed before its tokens expire"),
    ("heal", "a connection that the load balancer reports as down is requested again"),
    ("mechanism", "the load balancer is asked for a kernel interface with a name"),
    ("ipam", "the load balancer is told the addresses of both ends"),
    ("egress", "the connection counts as egress"),
    ("source_route", "the load balancer becomes a next hop"),
    ("bridge", "the load balancer's link becomes a port"),
    ("mtu", "the load balancer is told the MTU of the conduit"),
    ("send_fd", "the descriptor of the network namespace comes with the Request"),
    ("authorize", "an answer that nobody signed is denied"),
    ("connect", "the load balancer is called"),
];

pub(crate) async fn check(rig: &Rig, row: &str) -> Checked {
    match row {
        "trace" => trace(rig).await,
        "update_path" => update_path(rig).await,
        "begin" => begin(rig).await,
        "metadata" => metadata(rig).await,
        "answers" => answers(rig).await,
        "refresh" => again(rig).await,
        "heal" => heal(rig).await,
        "mechanism" => mechanism(rig).await,
        "ipam" => ipam(rig).await,
        "egress" => egress(rig).await,
        "source_route" => source_route(rig).await,
        "bridge" => bridge(rig).await,
        "mtu" => mtu(rig).await,
        "send_fd" => send_fd(rig).await,
        "authorize" => authorize(rig).await,
        "connect" => seen(rig).await.map(drop),
        _ => Err(format!("no check for `{row}`")),
    }
}

/// A connection to the load balancer, with its link.
async fn established(rig: &Rig) -> Result<Box<Connection>, String> {
    let connection = ask(&rig.proxy, request("px-lb")).await?;
    if let Some(name) = connection.mechanism.as_ref().and_then(Mechanism::interface) {
        rig.linux.add_link(name.as_str(), None);
    }
    Ok(connection)
}

/// The first Request, as received by the load balancer.
async fn seen(rig: &Rig) -> Result<Seen, String> {
    established(rig).await?;
    rig.lb.seen().first().cloned().ok_or_else(|| "the load balancer was not called".into())
}

async fn trace(rig: &Rig) -> Checked {
    // the load balancer's chain has no trace row: the span is the proxy's
    established(rig).await?;
    holds(rig.spans.has("call"), || "no span of the call".into())
}

async fn update_path(rig: &Rig) -> Checked {
    let connection = seen(rig).await?.connection;
    let first = connection.segments().first().map(|segment| (segment.name.clone(), segment.id.clone()));
    holds(first == Some(("px".into(), "px-lb".into())), || format!("{first:?}"))
}

async fn begin(rig: &Rig) -> Checked {
    established(rig).await?;
    holds(rig.parts.egress.count() == 1, || "nothing stayed".into())
}

async fn metadata(rig: &Rig) -> Checked {
    established(rig).await?;
    rig.version.fail(true);
    holds(established(rig).await.is_err(), || "the refresh did not fail".into())?;
    rig.version.fail(false);
    established(rig).await?;
    holds(rig.version.found() == 1, || format!("found version {}", rig.version.found()))
}

/// A second Request comes by itself.
async fn answers(rig: &Rig) -> Checked {
    let connection = established(rig).await?;
    let seen = rig.parts.answers.get(connection.client_id()).map(|answer| answer.path.len());
    holds(seen == Some(connection.segments().len()), || format!("{seen:?} hops"))
}

async fn again(rig: &Rig) -> Checked {
    established(rig).await?;
    eventually(|| rig.lb.seen().len() > 1, || "no second Request".into()).await
}

async fn heal(rig: &Rig) -> Checked {
    established(rig).await?;
    rig.lb.down();
    eventually(|| rig.lb.seen().len() > 1, || "no second Request".into()).await
}

async fn mechanism(rig: &Rig) -> Checked {
    let preferences = seen(rig).await?.preferences;
    let named = preferences.first().and_then(Mechanism::interface);
    holds(named.is_some(), || format!("{preferences:?}"))
}

async fn ipam(rig: &Rig) -> Checked {
    let connection = seen(rig).await?.connection;
    let ip = connection.ip_context().cloned().unwrap_or_default();
    holds(ip.src_ip_addrs.len() == 2 && ip.dst_ip_addrs.len() == 2, || format!("{ip:?}"))
}

async fn egress(rig: &Rig) -> Checked {
    established(rig).await?;
    holds(rig.parts.egress.count() == 1, || format!("{} connections", rig.parts.egress.count()))
}

async fn source_route(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let name = answer.mechanism.as_ref().and_then(Mechanism::interface).ok_or("no name")?;
    rig.becomes_port(name.as_str()).await?;
    let address = answer.ip_context().and_then(|ip| ip.dst_ip_addrs.first()).ok_or("no address")?;
    let address = address.split('/').next().unwrap_or_default().parse().map_err(|_| address.clone())?;
    let status = rig.parts.kernel.status();
    eventually(|| status.borrow().has_next_hop(address), || format!("{:?}", status.borrow().next_hops)).await
}

async fn bridge(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let name = answer.mechanism.as_ref().and_then(Mechanism::interface).ok_or("no name")?;
    rig.becomes_port(name.as_str()).await
}

async fn mtu(rig: &Rig) -> Checked {
    let connection = seen(rig).await?.connection;
    let mtu = connection.context.as_ref().map_or(0, |context| context.mtu);
    holds(mtu == MTU, || format!("MTU {mtu}"))
}

async fn send_fd(rig: &Rig) -> Checked {
    holds(seen(rig).await?.descriptor, || "the descriptor did not come".into())
}

async fn authorize(rig: &Rig) -> Checked {
    match established(rig).await {
        Err(error) if error.contains("no sufficient privileges") => Ok(()),
        other => Err(format!("{:?}", other.map(|answer| answer.id.clone()))),
    }
}
