// SPDX-License-Identifier: Apache-2.0
//! Runs the Go peers against each other: our side must pass each case that passes here.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    client_case::{Callee, connects_refreshes_and_closes, require},
    node::{Node, START_TIMEOUT, TIMEOUT},
    programs::{Netns, Outcome},
};

#[tokio::test]
async fn a_go_client_and_a_go_endpoint_exchange_descriptors() -> Outcome<()> {
    let mut node = Node::new()?;
    let address = node.unix("endpoint.sock");
    let mut endpoint = node.run("endpoint", "endpoint", Netns::Own, &["-listen", &address])?;
    let netns =
        endpoint.event("started", START_TIMEOUT).await?["netns"].as_str().unwrap_or_default().to_owned();
    endpoint.event("listening", START_TIMEOUT).await?;

    let callee = Callee { address: &address, hops: &["endpoint"], netns: Some(&netns) };
    let caller = connects_refreshes_and_closes(&mut node, callee).await?;
    assert_ne!(caller, netns);
    let first = endpoint.event("request", TIMEOUT).await?;
    require(&first["preferences"][0], "descriptor", &json!(caller))?;
    endpoint.event("close", TIMEOUT).await.map(drop)
}

#[tokio::test]
async fn a_go_endpoint_is_registered_and_called_by_the_manager() -> Outcome<()> {
    let mut node = Node::new()?;
    let _control = node.control_plane().await?;
    let manager = node.manager();
    let mut endpoint = node.run("endpoint", "endpoint", Netns::Own, &["-connect", &manager])?;
    let registered = endpoint.event("registered", START_TIMEOUT).await?;
    require(&registered, "path", &json!([node.id("endpoint"), node.id("nsmgr"), node.id("registry")]))?;

    let callee = Callee { address: &manager, hops: &["nsmgr", "forwarder", "endpoint"], netns: None };
    connects_refreshes_and_closes(&mut node, callee).await?;
    endpoint.event("close", TIMEOUT).await?;
    endpoint.stop(TIMEOUT).await?;
    assert_eq!(endpoint.events("unregistered").count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_go_endpoint_comes_back_when_the_manager_restarts() -> Outcome<()> {
    let mut node = Node::new()?;
    let mut control = node.control_plane().await?;
    let manager = node.manager();
    let mut endpoint = node.run("endpoint", "endpoint", Netns::Own, &["-connect", &manager])?;
    endpoint.event("registered", START_TIMEOUT).await?;
    node.restart_nsmgr(&mut control).await?;

    let started = Instant::now();
    loop {
        let args = ["-connect", &manager, "-refreshes", "0", "-timeout", "3s"];
        let mut client = node.run("client", "client", Netns::Own, &args)?;
        match client.success(TIMEOUT).await {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() > Duration::from_secs(15) => return Err(error),
            Err(_) => {}
        }
    }
}
