// SPDX-License-Identifier: Apache-2.0

//! Translates NSM's calls into calls of a chain, and its errors into gRPC statuses.

use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, service::Routes};

use super::{Stopping, TraceContext, deadline::call_timeout};
use crate::{
    api::{
        Connection, Mechanism,
        pb::{
            connection::{
                ConnectionEvent, MonitorScopeSelector,
                monitor_connection_server::{MonitorConnection, MonitorConnectionServer},
            },
            networkservice::{
                NetworkServiceRequest,
                network_service_server::{NetworkService, NetworkServiceServer},
            },
        },
    },
    chain::{self, CallContext, Next, Reason, bounds},
    server::monitor::Connections,
    transport::Caller,
};

/// A chain that peers call: NetworkService, and MonitorConnection over the connections that the
/// chain publishes.
///
/// The chain finds the [`Caller`] and the [`TraceContext`] of a call in the extensions of its
/// context. Its work continues when the caller goes away, if it has a `begin` row.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     chain::Chain,
///     server::{self, Endpoint, monitor::Connections},
///     testing::Authority,
///     transport::{Address, Dialer, Listener},
/// };
/// use tokio::{sync::oneshot, time::Instant};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let authority = Authority::new("example.org");
/// let address = Address::Unix(folder.path().join("endpoint.sock"));
/// let listener = Listener::bind(&address, authority.identity("web")).await?;
/// let routes = Endpoint::new(Chain::new().build()?, Connections::default()).routes();
/// let (stop, stopped) = oneshot::channel::<()>();
/// let stop_signal = async { _ = stopped.await };
/// let drain = Duration::from_secs(1);
/// let server = tokio::spawn(server::serve(listener, routes, stop_signal, drain));
///
/// let identity = authority.identity("shop");
/// let token_lifetime = Duration::from_secs(600);
/// let dialer = Dialer { address, identity, dial_timeout: Duration::from_secs(5), token_lifetime };
/// let wire = dialer.dial(Instant::now() + Duration::from_secs(10)).await?;
/// assert_eq!(wire.peer().id(), "spiffe://example.org/web");
/// drop((wire, stop));
/// server.await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Endpoint {
    chain: Next,
    connections: Connections,
}

impl Endpoint {
    /// Serves a chain.
    pub fn new(chain: Next, connections: Connections) -> Self {
        Self { chain, connections }
    }

    /// The two services. Add [`health`](super::health()) and any other services.
    pub fn routes(self) -> Routes {
        let network_service =
            NetworkServiceServer::new(self.clone()).max_decoding_message_size(bounds::MESSAGE);
        let monitor = MonitorConnectionServer::new(self).max_decoding_message_size(bounds::MESSAGE);
        Routes::new(network_service).add_service(monitor)
    }
}

/// The context of a call.
fn context<T>(request: &Request<T>) -> Result<CallContext, Status> {
    let caller = Caller::of(request)?;
    let mut context = CallContext::within(call_timeout(request.metadata())?);
    if let Some(trace) = TraceContext::read(request.metadata()) {
        context.extensions.insert(trace);
    }
    context.extensions.insert(caller);
    Ok(context)
}

/// The connection of a call, checked.
fn checked(connection: Option<Connection>, preferences: &[Mechanism]) -> chain::Result<Box<Connection>> {
    let connection = connection.ok_or_else(|| Reason::Invalid("the request has no connection".into()))?;
    bounds::check(&connection, preferences)?;
    Ok(Box::new(connection))
}

#[tonic::async_trait]
impl NetworkService for Endpoint {
    async fn request(&self, request: Request<NetworkServiceRequest>) -> Result<Response<Connection>, Status> {
        let context = context(&request)?;
        let NetworkServiceRequest { connection, mechanism_preferences: preferences } = request.into_inner();
        let connection = checked(connection, &preferences)?;
        let answer = self.chain.request(chain::Request { connection, preferences, context }).await?;
        Ok(Response::new(*answer))
    }

    async fn close(&self, request: Request<Connection>) -> Result<Response<()>, Status> {
        let context = context(&request)?;
        let connection = checked(Some(request.into_inner()), &[])?;
        self.chain.close(chain::Close { connection, context }).await?;
        Ok(Response::new(()))
    }
}

#[tonic::async_trait]
impl MonitorConnection for Endpoint {
    type MonitorConnectionsStream = BoxStream<'static, Result<ConnectionEvent, Status>>;

    async fn monitor_connections(
        &self,
        request: Request<MonitorScopeSelector>,
    ) -> Result<Response<Self::MonitorConnectionsStream>, Status> {
        let stopping = Stopping::of(&request);
        let events = self.connections.subscribe(request.into_inner())?;
        Ok(Response::new(events.take_until(stopping.stopped()).boxed()))
    }
}
