// SPDX-License-Identifier: Apache-2.0

//! Checks the purpose of each row of the endpoint chain, at a target.

use std::time::Duration;

use nsm::{
    api::{Connection, Mechanism, PathSegment, parameter},
    chain::CallContext,
};

use crate::rig::{Checked, MTU, Rig, ask, eventually, holds, request};

const LONG: Duration = Duration::from_secs(600);

/// Row, and the promise that breaks without it. In the order of the chain.
pub(crate) const ROWS: &[(&str, &str)] = &[
    ("trace", "a call has a span"),
    ("update_path", "the answer has a segment of the proxy, and the caller's index and id"),
    ("update_token", "the proxy signs its segment, so that a valid caller is accepted"),
    ("authorize", "a path that does not lead to the caller is denied"),
    ("begin", "what a Request declares stays true after it"),
    ("metadata", "a refresh that fails leaves the state of the last good one"),
    ("timeout", "a connection whose caller does not refresh is closed"),
    ("monitor", "peers see the connection"),
    ("trim_path", "segments of an earlier endpoint are not answered"),
    ("mechanism", "the answer has an interface name"),
    ("ipam", "the answer has addresses and gateways"),
    ("bridge", "the target's link becomes a port"),
    ("mtu", "the answer has the MTU of the conduit"),
    ("send_fd", "the descriptor of the network namespace comes with the answer"),
];

pub(crate) async fn check(rig: &Rig, row: &str) -> Checked {
    match row {
        "trace" => trace(rig).await,
        "update_path" => update_path(rig).await,
        "begin" => begin(rig).await,
        "update_token" => ask(&rig.target(LONG), request("t")).await.map(drop),
        "authorize" => authorize(rig).await,
        "metadata" => metadata(rig).await,
        "timeout" => timeout(rig).await,
        "monitor" => monitor(rig).await,
        "trim_path" => trim_path(rig).await,
        "mechanism" => mechanism(rig).await,
        "ipam" => ipam(rig).await,
        "bridge" => bridge(rig).await,
        "mtu" => mtu(rig).await,
        "send_fd" => send_fd(rig).await,
        _ => Err(format!("no check for `{row}`")),
    }
}

async fn established(rig: &Rig) -> Result<Box<Connection>, String> {
    ask(&rig.target(LONG), request("t")).await
}

async fn trace(rig: &Rig) -> Checked {
    established(rig).await?;
    holds(rig.spans.has("call"), || "no span of the call".into())
}

async fn update_path(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let names: Vec<_> = answer.segments().iter().map(|segment| segment.name.as_str()).collect();
    holds(names == ["target", "px"] && answer.index() == 0 && answer.id == "t", || format!("{names:?}"))
}

async fn begin(rig: &Rig) -> Checked {
    established(rig).await?;
    eventually(
        || rig.parts.leases.status().borrow().held > 1,
        || format!("{:?}", rig.parts.leases.status().borrow()),
    )
    .await
}

/// A Request with a path of two unknown hops above, whose tokens are invalid.
async fn authorize(rig: &Rig) -> Checked {
    let chain = rig.target(LONG);
    let mut foreign = request("t");
    let stranger = |name: &str, id: &str| PathSegment {
        name: name.into(),
        id: id.into(),
        token: "a.b.c".into(),
        ..PathSegment::default()
    };
    foreign.connection.path_mut().path_segments = vec![stranger("stranger", "t"), stranger("target", "t2")];
    match ask(&chain, foreign).await {
        Err(error) if error.contains("PermissionDenied") => Ok(()),
        other => Err(format!("{:?}", other.map(|answer| answer.id.clone()))),
    }
}

async fn metadata(rig: &Rig) -> Checked {
    let chain = rig.target(LONG);
    ask(&chain, request("t")).await?;
    rig.version.fail(true);
    holds(ask(&chain, request("t")).await.is_err(), || "the refresh did not fail".into())?;
    rig.version.fail(false);
    ask(&chain, request("t")).await?;
    holds(rig.version.found() == 1, || format!("found version {}", rig.version.found()))
}

async fn timeout(rig: &Rig) -> Checked {
    let mut short = request("t");
    short.context = CallContext::within(Duration::from_secs(2));
    ask(&rig.target(Duration::from_secs(3)), short).await?;
    holds(rig.parts.leases.status().borrow().held > 1, || "nothing was held".into())?;
    eventually(
        || rig.parts.leases.status().borrow().held == 1,
        || format!("{:?}", rig.parts.leases.status().borrow()),
    )
    .await
}

async fn monitor(rig: &Rig) -> Checked {
    established(rig).await?;
    holds(rig.parts.connections.len() == 1, || format!("{} connections", rig.parts.connections.len()))
}

async fn trim_path(rig: &Rig) -> Checked {
    let mut reselect = request("t");
    let segment =
        |name: &str, id: &str| PathSegment { name: name.into(), id: id.into(), ..PathSegment::default() };
    reselect.connection.path_mut().path_segments =
        vec![segment("target", "t"), segment("px", "old"), segment("earlier", "older")];
    let answer = ask(&rig.target(LONG), reselect).await?;
    holds(answer.segments().len() == 2, || format!("{} segments", answer.segments().len()))
}

async fn mechanism(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let name = answer.mechanism.as_ref().and_then(Mechanism::interface);
    holds(name.is_some(), || format!("{:?}", answer.mechanism))
}

async fn ipam(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let ip = answer.ip_context().cloned().unwrap_or_default();
    let whole = ip.src_ip_addrs.len() == 2 && ip.dst_ip_addrs.len() == 2 && ip.extra_prefixes.len() == 2;
    holds(whole, || format!("{ip:?}"))
}

async fn bridge(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let name = answer.mechanism.as_ref().and_then(Mechanism::interface).ok_or("no name")?;
    rig.becomes_port(name.as_str()).await
}

async fn mtu(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let mtu = answer.context.as_ref().map_or(0, |context| context.mtu);
    holds(mtu == MTU, || format!("MTU {mtu}"))
}

async fn send_fd(rig: &Rig) -> Checked {
    let answer = established(rig).await?;
    let mechanism = answer.mechanism.as_ref().ok_or("no mechanism")?;
    let inode =
        mechanism.inode().ok_or_else(|| format!("{:?}", mechanism.parameters.get(parameter::INODE_URL)))?;
    let wire = rig.wire.get().ok_or("no wire")?;
    let hub = wire.hub().ok_or("no descriptors on this wire")?;
    let came = hub.take(inode, tokio::time::Instant::now() + Duration::from_secs(2)).await;
    holds(came.is_some(), || format!("{inode} did not come"))
}
