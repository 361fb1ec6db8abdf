// SPDX-License-Identifier: Apache-2.0
//! Tests our endpoint behind the Go manager.

use std::time::{Duration, Instant};

use nsm::{registry::Registry, transport::Dialer};

use crate::{
    client_case::{Callee, connects_refreshes_and_closes},
    from_go::answering,
    node::{ControlPlane, Node, RECOVERY_TIMEOUT, TIMEOUT},
    ours::{Endpoint, POD, Pod, connections},
    programs::{Netns, Outcome},
    registry_case::{client, find, register, registered, registers_refreshes_and_unregisters},
    witness::Arrived,
};

/// Our endpoint on a node with the Go control plane.
struct Stage {
    node: Node,
    control: ControlPlane,
    pod: Pod,
    endpoint: Endpoint,
    dialer: Dialer,
}

impl Stage {
    async fn new() -> Outcome<Self> {
        let mut node = Node::new()?;
        let control = node.control_plane().await?;
        let pod = Pod::new(&mut node)?;
        let connections = connections();
        let chain = answering(pod.endpoint_rows(&connections, &Arrived::default()))?;
        let endpoint = Endpoint::serve(&node, &pod, chain, connections).await?;
        let dialer = pod.dialer(&node.manager())?;
        Ok(Self { node, control, pod, endpoint, dialer })
    }
}

/// Registers through the given registry client.
pub(crate) async fn through<R: Registry>(registry: impl FnOnce(&Dialer) -> R) -> Outcome<()> {
    let stage = Stage::new().await?;
    let registry = registry(&stage.dialer);
    let outcome = registers_refreshes_and_unregisters(registry, &stage.dialer, &stage.endpoint).await;
    stage.pod.stop().await;
    outcome
}

#[tokio::test]
async fn our_endpoint_is_registered_refreshed_and_unregistered() -> Outcome<()> {
    through(client).await
}

#[tokio::test]
async fn our_endpoint_is_found_and_called_through_the_passed_socket() -> Outcome<()> {
    let mut stage = Stage::new().await?;
    let registration = register(client(&stage.dialer), &stage.endpoint);
    registered(&registration).await?;
    let manager = stage.node.manager();
    // A manager returns the caller's own namespace.
    let callee = Callee { address: &manager, hops: &["nsmgr", "forwarder", POD], netns: None };
    connects_refreshes_and_closes(&mut stage.node, callee).await?;
    registration.unregister().await.map_err(|error| error.to_string())?;
    stage.pod.stop().await;
    Ok(())
}

#[tokio::test]
async fn our_endpoint_is_back_soon_after_the_managers_restart() -> Outcome<()> {
    let mut stage = Stage::new().await?;
    let registry = client(&stage.dialer);
    let registration = register(registry.clone(), &stage.endpoint);
    registered(&registration).await?;
    stage.node.restart_nsmgr(&mut stage.control).await?;

    let restarted = Instant::now();
    while find(&registry).await?.is_none() {
        if restarted.elapsed() > RECOVERY_TIMEOUT {
            return Err(format!("not found: {:?}", registration.state().borrow()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The forwarder recovers by itself; until then a client is refused.
    let manager = stage.node.manager();
    let args = ["-connect", &manager, "-refreshes", "0", "-timeout", "3s"];
    loop {
        let mut client = stage.node.run("client", "client", Netns::Own, &args)?;
        match client.success(TIMEOUT).await {
            Ok(()) => break,
            Err(error) if restarted.elapsed() > RECOVERY_TIMEOUT => return Err(error),
            Err(_refused) => {}
        }
    }
    drop(registration);
    stage.pod.stop().await;
    Ok(())
}
