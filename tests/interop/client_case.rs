// SPDX-License-Identifier: Apache-2.0
//! Checks of a Go client against an endpoint during one whole connection.

use serde_json::{Value, json};

use crate::{
    node::{Node, START_TIMEOUT, TIMEOUT},
    programs::{Netns, Outcome},
};

/// An endpoint, from the view of its callers.
pub(crate) struct Callee<'a> {
    /// Address that the client dials: the endpoint's own, or the manager's.
    pub(crate) address: &'a str,
    /// Names in the path after the client's own, in order; each is a pod's.
    pub(crate) hops: &'a [&'a str],
    /// Inode number of the network namespace whose descriptor the client receives; `None` means the
    /// client's own.
    pub(crate) netns: Option<&'a str>,
}

/// Lifetime of the client's tokens. The sdk refreshes after a fifth of it; a callee gives up a
/// deadline before its end.
const LIFETIME: &str = "6s";
/// Deadline of each of the client's calls.
const DEADLINE: &str = "3s";
/// Shortest time between two answers that a refresh after a fifth of [`LIFETIME`] allows, in
/// seconds.
const SPACING: f64 = 0.5;

/// Health, Request, three refreshes, monitor events and Close, with the client's policies on. The
/// answer is the client's namespace.
pub(crate) async fn connects_refreshes_and_closes(node: &mut Node, callee: Callee<'_>) -> Outcome<String> {
    let args = ["-connect", callee.address, "-refreshes", "3", "-lifetime", LIFETIME, "-timeout", DEADLINE];
    let mut client = node.run("client", "client", Netns::Own, &args)?;
    let netns =
        client.event("started", START_TIMEOUT).await?["netns"].as_str().unwrap_or_default().to_owned();
    client.success(TIMEOUT).await?;

    for health in client.events("health") {
        require(health, "status", &json!("SERVING"))?;
    }
    let answers: Vec<_> = client.events("answer").collect();
    if answers.len() < 4 {
        return Err(format!("{} answers: want one and three refreshes", answers.len()));
    }
    for answer in &answers {
        require(answer, "descriptor", &json!(callee.netns.unwrap_or(&netns)))?;
        connection(node, &answer["connection"], &callee)?;
    }
    for pair in answers.windows(2) {
        let spacing = pair[1]["at"].as_f64().unwrap_or_default() - pair[0]["at"].as_f64().unwrap_or_default();
        if spacing < SPACING {
            return Err(format!("refreshed after {spacing:.3} s: a segment does not say when it expires"));
        }
    }
    monitored(&client.events("monitor").collect::<Vec<_>>())?;
    if client.events("closed").count() != 1 {
        return Err("the Close was not answered".to_owned());
    }
    Ok(netns)
}

/// The connection is the caller's own, and each hop's token is for the next.
fn connection(node: &Node, connection: &Value, callee: &Callee<'_>) -> Outcome<()> {
    require(connection, "id", &json!("client-0"))?;
    require(connection, "index", &json!(0))?;
    require(connection, "state", &json!("UP"))?;
    require(connection, "mechanism", &json!("KERNEL"))?;
    let interface = connection["parameters"]["name"].as_str().unwrap_or_default();
    if interface.is_empty() || interface.len() > 15 {
        return Err(format!("interface name {interface:?}: want 1 to 15 bytes"));
    }
    tokens(node, connection, "client", callee.hops)
}

/// The path is that of the caller and the hops, and each one's token is for the next.
pub(crate) fn tokens(node: &Node, connection: &Value, caller: &str, hops: &[&str]) -> Outcome<()> {
    let names: Vec<_> = std::iter::once(caller).chain(hops.iter().copied()).collect();
    let segments = connection["segments"].as_array().cloned().unwrap_or_default();
    if segments.len() != names.len() {
        return Err(format!("{} segments, want {names:?}: {connection:#}", segments.len()));
    }
    for (at, (segment, name)) in segments.iter().zip(&names).enumerate() {
        require(segment, "name", &json!(name))?;
        // The last hop's token is for the previous one, because no hop follows.
        let audience = names.get(at + 1).unwrap_or_else(|| &names[at - 1]);
        require(segment, "token", &json!(format!("{} -> {}", node.id(name), node.id(audience))))?;
    }
    Ok(())
}

/// First an empty event, then an update for each answer, then the end.
fn monitored(events: &[&Value]) -> Outcome<()> {
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    let first = kinds.first().copied();
    let last = kinds.last().copied();
    let updates = kinds.iter().filter(|kind| **kind == "UPDATE").count();
    if first != Some("INITIAL_STATE_TRANSFER") || last != Some("DELETE") || updates < 4 {
        return Err(format!(
            "monitor events {kinds:?}: want the initial one, at least four updates, and the end"
        ));
    }
    Ok(())
}

/// A member has a value.
pub(crate) fn require(object: &Value, member: &str, want: &Value) -> Outcome<()> {
    if &object[member] == want {
        return Ok(());
    }
    Err(format!("`{member}` is {}, want {want}, in {object:#}", object[member]))
}
