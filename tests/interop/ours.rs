// SPDX-License-Identifier: Apache-2.0
//! Our side: an identity, our chains, an endpoint on a socket, and dialers to the peers.

use std::{path::PathBuf, time::Duration};

use nsm::{
    chain::{Chain, Next},
    chains,
    elements::{
        mechanism::{self, Names},
        send_fd::{self, Netns},
    },
    server::{
        self,
        monitor::{Connections, Limits},
        serve,
    },
    task::Tasks,
    transport::{Address, Dialer, Identity, Listener},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    node::Node,
    programs::Outcome,
    witness::{Arrived, Received},
};

/// Pod of our side, and its name in paths and in the registry.
pub(crate) const POD: &str = "ours";
/// Lifetime of our tokens, long enough for a test.
const LIFETIME: Duration = Duration::from_secs(600);
/// Timeout of one attempt to reach a peer.
const DIAL: Duration = Duration::from_secs(2);

/// Our identity and the tasks that use it.
pub(crate) struct Pod {
    pub(crate) identity: Identity,
    tasks: Tasks,
}

impl Pod {
    /// Follows the Workload API of the node.
    pub(crate) fn new(node: &mut Node) -> Outcome<Self> {
        let tasks = Tasks::default();
        Ok(Self { identity: Identity::follow(&node.workload(POD)?, &tasks), tasks })
    }

    /// The dialer of a peer, with tokens of the usual lifetime.
    pub(crate) fn dialer(&self, address: &str) -> Outcome<Dialer> {
        self.dialer_for(address, LIFETIME)
    }

    /// The dialer of a peer.
    pub(crate) fn dialer_for(&self, address: &str, token_lifetime: Duration) -> Outcome<Dialer> {
        let target: Address = address.parse().map_err(|error| format!("{error}"))?;
        Ok(Dialer { address: target, identity: self.identity.clone(), dial_timeout: DIAL, token_lifetime })
    }

    /// Rows of our client chain. Its end discards received descriptors.
    pub(crate) fn client_rows(&self, received: &Received, dialer: Dialer) -> Outcome<Chain> {
        Ok(chains::client(POD, dialer, &self.tasks)
            .append(received.clone())
            .append(mechanism::Client::new(names()))
            .append(send_fd::Client::new(netns()?)))
    }

    /// Rows of our endpoint chain, down to the one that sends the descriptor.
    pub(crate) fn endpoint_rows(&self, connections: &Connections, arrived: &Arrived) -> Chain {
        chains::endpoint(POD, LIFETIME, connections, &self.tasks)
            .append(arrived.clone())
            .append(mechanism::Endpoint::new(names()))
    }

    /// Ends every task of our side.
    pub(crate) async fn stop(self) {
        self.tasks.stop().await;
    }
}

/// A chain of ours that peers call. Dropping it stops the server.
pub(crate) struct Endpoint {
    pub(crate) socket: PathBuf,
    pub(crate) address: String,
    _server: AbortOnDropHandle<()>,
}

impl Endpoint {
    /// Serves a chain, and the connections it publishes, on a socket of the node.
    pub(crate) async fn serve(
        node: &Node,
        pod: &Pod,
        chain: Next,
        connections: Connections,
    ) -> Outcome<Self> {
        let socket = node.path("ours.sock");
        let address = node.unix("ours.sock");
        let target = Address::Unix(socket.clone());
        let listener =
            Listener::bind(&target, pod.identity.clone()).await.map_err(|error| error.to_string())?;
        let listener = listener.keep_descriptors();
        let (_reporter, health) = server::health().await;
        let routes = server::Endpoint::new(chain, connections).routes().add_service(health);
        let serving = serve(listener, routes, std::future::pending(), Duration::ZERO);
        Ok(Self { socket, address, _server: AbortOnDropHandle::new(tokio::spawn(serving)) })
    }
}

/// Connections whose limits no test reaches.
pub(crate) fn connections() -> Connections {
    Connections::new(Limits::default())
}

/// Our network namespace.
pub(crate) fn netns() -> Outcome<Netns> {
    Netns::own().map_err(|error| error.to_string())
}

/// Names of links, none of them taken.
fn names() -> Names {
    Names::new(|_| false)
}
