// SPDX-License-Identifier: Apache-2.0
//! Runs a Go client against our endpoint chain: directly, and through the Go manager.

use nsm::{
    chain::{Chain, Next},
    elements::send_fd,
};

use crate::{
    client_case::{Callee, connects_refreshes_and_closes},
    node::Node,
    ours::{Endpoint, POD, Pod, connections, netns},
    programs::Outcome,
    witness::Arrived,
};

/// A Go client at a chain of ours; `end` completes its rows.
pub(crate) async fn at_our_endpoint(end: impl FnOnce(Chain) -> Outcome<Next>) -> Outcome<()> {
    let mut node = Node::new()?;
    let pod = Pod::new(&mut node)?;
    let connections = connections();
    let arrived = Arrived::default();
    let chain = end(pod.endpoint_rows(&connections, &arrived))?;
    let endpoint = Endpoint::serve(&node, &pod, chain, connections.clone()).await?;
    let ours = netns()?.inode().ino.to_string();
    let callee = Callee { address: &endpoint.address, hops: &[POD], netns: Some(&ours) };
    let theirs = connects_refreshes_and_closes(&mut node, callee).await?;

    let namespaces = arrived.namespaces().clone();
    if namespaces.len() < 4 || namespaces.iter().any(|namespace| namespace.to_string() != theirs) {
        return Err(format!("descriptors of {namespaces:?}, want four or more of {theirs}"));
    }
    if !connections.is_empty() {
        return Err("still published after the Close".to_owned());
    }
    pod.stop().await;
    Ok(())
}

/// The rows, with the product's row that sends the descriptor.
pub(crate) fn answering(rows: Chain) -> Outcome<Next> {
    answer(rows.with(send_fd::Endpoint::new(netns()?)))
}

/// The rows, answering below them.
pub(crate) fn answer(rows: Chain) -> Outcome<Next> {
    rows.build().map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_go_client_connects_refreshes_and_closes_at_our_endpoint() -> Outcome<()> {
    at_our_endpoint(answering).await
}
