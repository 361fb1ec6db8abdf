// SPDX-License-Identifier: Apache-2.0
//! Runs our client chain against a Go endpoint: directly, and through the Go manager.

use nsm::{
    chain::{Chain, Next},
    elements::connect::Connect,
    transport::Dialer,
};

use crate::{
    endpoint_case::{LIFETIME, Way, asked, connects_refreshes_and_closes},
    node::{Node, RECOVERY_TIMEOUT, START_TIMEOUT, TIMEOUT},
    ours::{Pod, netns},
    programs::{Netns, Outcome},
    witness::Received,
};

/// A chain of ours at a Go endpoint; `end` completes its rows.
pub(crate) async fn at_a_go_endpoint(end: impl FnOnce(&Node, Chain, Dialer) -> Outcome<Next>) -> Outcome<()> {
    let mut node = Node::new()?;
    let address = node.unix("endpoint.sock");
    let mut endpoint = node.run("endpoint", "endpoint", Netns::Own, &["-listen", &address])?;
    let theirs =
        endpoint.event("started", START_TIMEOUT).await?["netns"].as_str().unwrap_or_default().to_owned();
    endpoint.event("listening", START_TIMEOUT).await?;

    let pod = Pod::new(&mut node)?;
    let dialer = pod.dialer_for(&address, LIFETIME)?;
    let received = Received::default();
    let chain = end(&node, pod.client_rows(&received, dialer.clone())?, dialer.clone())?;
    let way = Way { dialer: &dialer, hops: &["endpoint"], netns: &theirs };
    let outcome = connects_refreshes_and_closes(&node, &chain, &received, way, &mut endpoint).await;
    pod.stop().await;
    outcome
}

/// The rows with the product's own end.
pub(crate) fn connected(rows: Chain, dialer: Dialer) -> Outcome<Next> {
    rows.end(Connect::new(dialer).keep_descriptors()).build().map_err(|error| error.to_string())
}

#[tokio::test]
async fn our_client_connects_refreshes_and_closes_at_a_go_endpoint() -> Outcome<()> {
    at_a_go_endpoint(|_, rows, dialer| connected(rows, dialer)).await
}

#[tokio::test]
async fn our_client_reaches_a_go_endpoint_through_the_go_manager() -> Outcome<()> {
    let mut node = Node::new()?;
    let _control = node.control_plane().await?;
    let manager = node.manager();
    let mut endpoint = node.run("endpoint", "endpoint", Netns::Own, &["-connect", &manager])?;
    endpoint.event("registered", START_TIMEOUT).await?;

    let pod = Pod::new(&mut node)?;
    let dialer = pod.dialer_for(&manager, LIFETIME)?;
    let received = Received::default();
    let chain = connected(pod.client_rows(&received, dialer.clone())?, dialer.clone())?;
    // A manager returns the caller's own namespace.
    let ours = netns()?.inode().ino.to_string();
    let way = Way { dialer: &dialer, hops: &["nsmgr", "forwarder", "endpoint"], netns: &ours };
    let outcome = connects_refreshes_and_closes(&node, &chain, &received, way, &mut endpoint).await;
    pod.stop().await;
    outcome
}

#[tokio::test]
async fn our_client_is_back_soon_after_the_managers_restart() -> Outcome<()> {
    let mut node = Node::new()?;
    let mut control = node.control_plane().await?;
    let manager = node.manager();
    let mut endpoint = node.run("endpoint", "endpoint", Netns::Own, &["-connect", &manager])?;
    endpoint.event("registered", START_TIMEOUT).await?;

    let pod = Pod::new(&mut node)?;
    // Long tokens, so that no refresh repairs the connection before heal does.
    let dialer = pod.dialer(&manager)?;
    let chain = connected(pod.client_rows(&Received::default(), dialer.clone())?, dialer)?;
    chain.request(asked()).await.map_err(|error| error.to_string())?;
    endpoint.event("request", TIMEOUT).await?;
    node.restart_nsmgr(&mut control).await?;
    endpoint.event("request", RECOVERY_TIMEOUT).await?;
    pod.stop().await;
    Ok(())
}
