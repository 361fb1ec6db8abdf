// SPDX-License-Identifier: Apache-2.0

//! Embeds a chain in another: a hop in the middle of a path, like nsmgr and forwarders.
//!
//! A chain is a tower service, so another chain can end with it. The hop has an endpoint chain for
//! its callers and a client chain for the next hop, each with its own `begin`: elements keep the
//! state of a connection by side. Both chains have the hop's name, and therefore share one segment
//! of the path.

use nsm::{
    api::Connection,
    chain::{Chain, Close, InvalidChain, Next, Request, begin::BeginLayer, metadata::MetadataLayer},
    elements::{egress::Egress, monitor::Monitor, mtu::Mtu, trim_path::TrimPath, update_path::UpdatePath},
    server::monitor::Connections,
    task::Tasks,
};

/// The end of the path.
fn endpoint() -> Result<Next, InvalidChain> {
    Chain::new().with(UpdatePath::new("endpoint")).with(TrimPath::default()).with(Mtu(1400)).build()
}

/// A hop in the middle, in front of `next`.
fn hop(next: Next, connections: &Connections, carried: &Egress, tasks: &Tasks) -> Result<Next, InvalidChain> {
    let client = Chain::new()
        .with(UpdatePath::new("hop"))
        .with(BeginLayer::client(tasks.clone()))
        .with(MetadataLayer)
        .with(carried.clone());
    Chain::new()
        .with(UpdatePath::new("hop"))
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(MetadataLayer)
        .with(Monitor::new(connections.clone()))
        .with(TrimPath::PASS_THROUGH)
        .end(client.end(next).build()?)
        .build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connections = Connections::default();
    let carried = Egress::default();
    let tasks = Tasks::default();
    let hop = hop(endpoint()?, &connections, &carried, &tasks)?;
    let caller = Chain::new().with(UpdatePath::new("caller")).end(hop).build()?;

    let answer = caller.request(Request::new(Connection::named("connection-1"))).await?;
    let names: Vec<_> = answer.segments().iter().map(|segment| segment.name.as_str()).collect();
    println!("{}", names.join(" → "));
    assert_eq!(names, ["caller", "hop", "endpoint"]);
    assert_eq!((answer.id.as_str(), answer.index()), ("connection-1", 0));
    assert_eq!(answer.context.as_ref().map(|context| context.mtu), Some(1400));

    let known = connections.get(&answer.segments()[1].id).ok_or("the hop does not publish the connection")?;
    assert_eq!((known.index(), known.segments().len(), carried.count()), (1, 3, 1));

    let refreshed = caller.request(Request::new(answer.clone())).await?;
    assert_eq!(refreshed, answer, "a refresh finds the same path");

    caller.close(Close::new(answer)).await?;
    assert_eq!((connections.len(), carried.count()), (0, 0));
    tasks.stop().await;
    Ok(())
}
