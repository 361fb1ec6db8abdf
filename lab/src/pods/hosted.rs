// SPDX-License-Identifier: Apache-2.0
//! Hosts a server of the lab: gRPC over mTLS on a unix socket or a port, in the namespace of a pod.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;

use crate::{
    error::{Doing, LabError},
    network::netns::Netns,
};
use nsm::{
    server::serve,
    transport::{Address, Identity, Listener},
};

/// Time for calls in progress when a server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// A running server. Dropped, it is cut; [`Hosted::stop`] lets it end.
pub struct Hosted {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Hosted {
    /// Listens on `target` inside a namespace and serves.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn start(
        netns: &Netns,
        target: &Address,
        identity: Identity,
        routes: Routes,
    ) -> Result<Self, LabError> {
        Ok(Self::run(bind(netns, target, identity)?, routes))
    }

    /// The same for services that claim the descriptors which come beside calls.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn start_with_descriptors(
        netns: &Netns,
        target: &Address,
        identity: Identity,
        routes: Routes,
    ) -> Result<Self, LabError> {
        Ok(Self::run(bind(netns, target, identity)?.keep_descriptors(), routes))
    }

    fn run(listener: Listener, routes: Routes) -> Self {
        let stop = CancellationToken::new();
        let server = serve(listener, routes, stop.clone().cancelled_owned(), DRAIN);
        Self { stop, task: AbortOnDropHandle::new(tokio::spawn(server)) }
    }

    /// Ends the server: no new calls, streams end, calls in progress have two seconds.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ended = self.task.await;
    }
}

fn bind(netns: &Netns, target: &Address, identity: Identity) -> Result<Listener, LabError> {
    let runtime = tokio::runtime::Handle::current();
    let bound =
        netns.run(|| runtime.block_on(Listener::bind(target, identity)).map_err(std::io::Error::other));
    bound.doing(|| format!("listen on {target}"))
}
