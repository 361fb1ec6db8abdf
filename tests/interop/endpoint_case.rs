// SPDX-License-Identifier: Apache-2.0
//! Checks of our client against a Go endpoint during one whole connection, from both sides.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use nsm::{
    api::{
        Connection, PathSegment,
        pb::connection::{ConnectionEventType, MonitorScopeSelector},
    },
    chain::{CallContext, Close, Next, Request},
    server::{NAMES, monitor},
    transport::{Dialer, origin},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    client_case::{require, tokens},
    node::{Node, TIMEOUT},
    ours::{POD, netns},
    programs::{Outcome, Program},
    witness::{Answer, Received},
};

/// Our connection's id.
const ID: &str = "ours-0";
/// Lifetime of our tokens: the refresh comes after a fifth of it.
pub(crate) const LIFETIME: Duration = Duration::from_secs(6);
/// Deadline of each of our calls.
const DEADLINE: Duration = Duration::from_secs(3);

/// The path of our calls.
pub(crate) struct Way<'a> {
    pub(crate) dialer: &'a Dialer,
    /// Names in the path after our own, in order.
    pub(crate) hops: &'a [&'a str],
    /// Inode number of the namespace whose descriptor we receive.
    pub(crate) netns: &'a str,
}

/// Health, Request, three refreshes, monitor events and Close, with the endpoint's policies on.
pub(crate) async fn connects_refreshes_and_closes(
    node: &Node,
    chain: &Next,
    received: &Received,
    way: Way<'_>,
    endpoint: &mut Program,
) -> Outcome<()> {
    healthy(way.dialer).await?;
    let wire = way.dialer.dial(Instant::now() + DEADLINE).await.map_err(|error| error.to_string())?;
    let ours = PathSegment { id: ID.into(), ..PathSegment::default() };
    let selector = MonitorScopeSelector { path_segments: vec![ours], ..Default::default() };
    let mut events = pin!(monitor::watch(&wire, selector, LIFETIME));
    let mut event = async || match timeout(TIMEOUT, events.next()).await {
        Ok(Some(Ok(event))) => Ok(event),
        other => Err(format!("no monitor event: {other:?}")),
    };
    let first = event().await?;
    if first.r#type() != ConnectionEventType::InitialStateTransfer || !first.connections.is_empty() {
        return Err(format!("first monitor event: {first:?}"));
    }

    let answer = chain.request(asked()).await.map_err(|error| format!("refused: {error}"))?;
    let netns = netns()?.inode();
    for _ in 0..4 {
        let request = endpoint.event("request", TIMEOUT).await?;
        seen(node, &request, &way, &netns.ino.to_string())?;
        let event = event().await?;
        if event.r#type() != ConnectionEventType::Update {
            return Err(format!("monitor event of an answer: {event:?}"));
        }
    }
    answered(received, &way).await?;

    let close = Close { connection: answer, context: CallContext::within(DEADLINE) };
    chain.close(close).await.map_err(|error| format!("not closed: {error}"))?;
    endpoint.event("close", TIMEOUT).await?;
    while event().await?.r#type() != ConnectionEventType::Delete {}
    Ok(())
}

/// Each answer is about our connection, and brought the descriptor. The last one may still be on
/// its way.
async fn answered(received: &Received, way: &Way<'_>) -> Outcome<()> {
    let since = Instant::now();
    while received.answers().len() < 4 {
        if since.elapsed() > TIMEOUT {
            return Err(format!("{} answers, want 4", received.answers().len()));
        }
        sleep(Duration::from_millis(10)).await;
    }
    for Answer { connection, netns } in received.answers().iter() {
        let id = &connection.id;
        let index = connection.index();
        if netns.to_string() != way.netns || id != ID || index != 0 {
            return Err(format!(
                "id `{id}`, index {index}, namespace {netns}: want `{ID}`, 0, {}",
                way.netns
            ));
        }
    }
    Ok(())
}

/// The Request for our connection.
pub(crate) fn asked() -> Request {
    let mut connection = Connection::named(ID);
    connection.network_service = "service".into();
    connection.payload = "ETHERNET".into();
    Request { connection, preferences: Vec::new(), context: CallContext::within(DEADLINE) }
}

/// A Request as received by the Go endpoint: our descriptor has arrived, our token is for the next
/// hop.
fn seen(node: &Node, request: &Value, way: &Way<'_>, netns: &str) -> Outcome<()> {
    let connection = &request["connection"];
    require(connection, "index", &json!(way.hops.len()))?;
    tokens(node, connection, POD, way.hops)?;
    if way.hops.len() == 1 {
        require(&request["preferences"][0], "descriptor", &json!(netns))?;
    }
    Ok(())
}

async fn healthy(dialer: &Dialer) -> Outcome<()> {
    let wire = dialer.dial(Instant::now() + DEADLINE).await.map_err(|error| error.to_string())?;
    let mut health = HealthClient::with_origin(wire.clone(), origin());
    for service in NAMES.into_iter().chain([""]) {
        let check = HealthCheckRequest { service: service.into() };
        let call = wire
            .call(check, Some(Instant::now() + DEADLINE), LIFETIME)
            .map_err(|status| status.to_string())?;
        let status = health.check(call).await.map_err(|status| status.to_string())?.into_inner().status();
        if status.as_str_name() != "SERVING" {
            return Err(format!("health of `{service}` is {status:?}"));
        }
    }
    Ok(())
}
