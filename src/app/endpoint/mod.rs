// SPDX-License-Identifier: Apache-2.0

//! An endpoint: the standard rows with those of its author below them, served and registered.

mod builder;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

pub use self::builder::EndpointBuilder;
use super::{ServeError, Server};
use crate::{
    chain::{InvalidChain, causes},
    registry::{self, Registration, State},
    server::monitor::Connections,
    task::Tasks,
    transport::{Address, Identity},
};

/// Time for [`Endpoint::run`] to stop. Kubernetes kills after 30 s.
const STOP: Duration = Duration::from_secs(10);

/// The reason why an endpoint is not served, or is not served any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The rows cannot be built.
    #[error("a row stands in the wrong place")]
    Order(#[from] InvalidChain),
    /// Nothing can be served.
    #[error("cannot serve")]
    Serve(#[from] ServeError),
    /// A registration was asked for, but no network service is offered.
    #[error("no network service is offered, so there is nothing to register")]
    NothingOffered,
    /// The registry refuses the endpoint permanently, for instance because of its identity.
    #[error("the registry refuses the endpoint")]
    Refused(#[source] Arc<registry::Error>),
}

/// An endpoint while it is served.
///
/// Dropping it cuts the connections to it, removes its socket, and lets its registration lapse;
/// [`stop`](Self::stop) ends it in order.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     Client, Endpoint,
///     elements::{mechanism, point_to_point::PointToPoint},
///     task::Tasks,
///     testing::Authority,
/// };
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (tasks, authority) = (Tasks::default(), Authority::new("example.org"));
/// let endpoint = Endpoint::builder("web-1", authority.identity("web-1"), &tasks)
///     .with(PointToPoint::new("172.16.1.0/24".parse()?))
///     .with(mechanism::Endpoint::new(mechanism::Names::of_pod()))
///     .offer("web")
///     .serve()
///     .await?;
///
/// // A client that calls the endpoint; in a cluster it calls nsmgr.
/// let client = Client::builder("shop-1", authority.identity("shop-1"), endpoint.address(), &tasks)
///     .with(mechanism::Client::new(mechanism::Names::of_pod()))
///     .build()?;
/// let link = client.connect(&"kernel://web/nsm-1".parse()?);
/// let connection = link.up().await?;
/// let addresses = connection.ip_context().map(|ip| ip.src_ip_addrs.as_slice());
/// assert_eq!(addresses, Some(&["172.16.1.1/32".to_owned()][..]));
///
/// link.close(Duration::from_secs(5)).await?;
/// endpoint.stop(Duration::from_secs(5)).await;
/// tasks.stop().await;
/// # Ok(()) }
/// ```
pub struct Endpoint {
    server: Server,
    connections: Connections,
    registration: Option<Registration>,
}

impl Endpoint {
    /// Begins an endpoint with the standard rows. The name is that of its pod: it identifies the
    /// endpoint in the registry and in the paths of connections. `tasks` own the timers and calls
    /// of connections; stop them after the endpoint.
    pub fn builder(name: impl Into<String>, identity: Identity, tasks: &Tasks) -> EndpointBuilder {
        EndpointBuilder::new(name.into(), identity, tasks.clone())
    }

    /// The address at which peers call it.
    pub fn address(&self) -> &Address {
        self.server.address()
    }

    /// Its connections.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The state of its registration, and the changes; `None` if it is not registered.
    pub fn registration(&self) -> Option<watch::Receiver<State>> {
        self.registration.as_ref().map(Registration::state)
    }

    /// Waits until clients can find it. Cancel-safe; returns at once if it is not to be registered.
    ///
    /// # Errors
    /// [`EndpointError::Refused`]. Any other failure is retried.
    pub async fn registered(&self) -> Result<(), EndpointError> {
        let Some(mut state) = self.registration() else { return Ok(()) };
        let decided = state.wait_for(|state| state.is_registered() || matches!(state, State::Refused(_)));
        match decided.await.as_deref() {
            Ok(State::Refused(error)) => Err(EndpointError::Refused(Arc::clone(error))),
            _ => Ok(()),
        }
    }

    /// Serves until `until` completes, then stops within 10 s.
    ///
    /// # Errors
    /// [`EndpointError::Refused`] as soon as the registry refuses the endpoint permanently.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<(), EndpointError> {
        let refused = tokio::select! {
            biased;
            () = until => None,
            error = self.refused() => Some(error),
        };
        self.stop(STOP).await;
        refused.map_or(Ok(()), |error| Err(EndpointError::Refused(error)))
    }

    /// Waits until the registry refuses the endpoint. Does not return otherwise.
    async fn refused(&self) -> Arc<registry::Error> {
        if let Some(mut state) = self.registration()
            && let Ok(state) = state.wait_for(|state| matches!(state, State::Refused(_))).await
            && let State::Refused(error) = &*state
        {
            return Arc::clone(error);
        }
        std::future::pending().await
    }

    /// Unregisters, so that no new client comes, then stops listening and gives calls in progress a
    /// second. Abandons calls that are not done `within` this time.
    pub async fn stop(self, within: Duration) {
        let deadline = Instant::now() + within;
        if let Some(registration) = self.registration {
            match tokio::time::timeout_at(deadline, registration.unregister()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = causes(&error), "not unregistered, the entry lapses by itself");
                }
                Err(_) => tracing::warn!("not unregistered in time, the entry lapses by itself"),
            }
        }
        self.server.stop(deadline).await;
    }
}

#[cfg(test)]
mod tests;
