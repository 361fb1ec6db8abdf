// SPDX-License-Identifier: Apache-2.0
//! Finds the endpoint of a Request through nsmgr (NSM `discover` and `roundrobin`).
//!
//! A named endpoint is used regardless of its labels; otherwise the matches of the network service
//! choose.
//!
//! # State
//! The endpoint of the connection, which its Close needs.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use tokio::time::Instant;

use crate::control_plane::{
    passthrough::NextHop,
    registry::{Registered, candidates},
};
use nsm::{
    api::{
        Connection, Inode,
        pb::registry::{
            NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery, NetworkServiceQuery,
            network_service_endpoint_registry_client::NetworkServiceEndpointRegistryClient as EndpointClient,
            network_service_registry_client::NetworkServiceRegistryClient as ServiceClient,
        },
    },
    chain::{CallContext, Close, Element, Next, Order, Reason, Request, Result, causes},
    transport::{Dialer, Wire, origin},
};

/// Timeout of a descriptor whose answer has arrived.
const DESCRIPTOR: Duration = Duration::from_secs(1);
/// Maximum number of entries read from one answer.
const MAX_ENTRIES: usize = 4096;

/// The endpoint of a connection.
struct Chosen(NextHop);

/// Element of the forwarder.
#[derive(Clone, Debug)]
pub(super) struct FindEndpoint {
    nsmgr: Dialer,
}

impl FindEndpoint {
    pub(super) fn new(nsmgr: Dialer) -> Self {
        Self { nsmgr }
    }

    async fn find(&self, connection: &mut Connection, context: &CallContext) -> Result<NextHop> {
        let wire = self.nsmgr.dial(context.deadline).await;
        let wire = wire.map_err(|error| Reason::Unavailable(causes(&error)))?;
        let name = &connection.network_service_endpoint_name;
        let query = NetworkServiceEndpoint {
            name: name.clone(),
            network_service_names: vec![connection.network_service.clone()],
            ..NetworkServiceEndpoint::default()
        };
        if let Some(hub) = wire.hub() {
            hub.keep_received();
        }
        let found = self.endpoints(&wire, query, context.deadline).await?;
        let found = if name.is_empty() {
            let service = self.service(&wire, &connection.network_service, context.deadline).await?;
            connection.payload.clone_from(&service.payload);
            candidates(&service, &connection.labels, found)
        } else {
            found
        };
        let endpoint = found.into_iter().next().ok_or_else(|| match name.is_empty() {
            true => Reason::Refused("no candidates found".into()),
            false => Reason::Refused(format!("network service endpoint {name} not found")),
        })?;
        connection.network_service_endpoint_name.clone_from(&endpoint.name);
        socket(&wire, endpoint).await
    }

    async fn endpoints(
        &self,
        wire: &Wire,
        query: NetworkServiceEndpoint,
        deadline: Instant,
    ) -> Result<Vec<NetworkServiceEndpoint>> {
        let query = NetworkServiceEndpointQuery { network_service_endpoint: Some(query), watch: false };
        let call = wire.call(query, Some(deadline), self.nsmgr.token_lifetime)?;
        let answers = EndpointClient::with_origin(wire.clone(), origin()).find(call).await?.into_inner();
        let answers: Vec<_> = futures::StreamExt::take(answers, MAX_ENTRIES).try_collect().await?;
        Ok(answers.into_iter().filter_map(|answer| answer.network_service_endpoint).collect())
    }

    async fn service(&self, wire: &Wire, name: &str, deadline: Instant) -> Result<NetworkService> {
        let wanted = NetworkService { name: name.to_owned(), ..NetworkService::default() };
        let query = NetworkServiceQuery { network_service: Some(wanted), watch: false };
        let call = wire.call(query, Some(deadline), self.nsmgr.token_lifetime)?;
        let mut answers = ServiceClient::with_origin(wire.clone(), origin()).find(call).await?.into_inner();
        let found = answers.message().await?.and_then(|answer| answer.network_service);
        Ok(found.ok_or_else(|| Reason::Refused(format!("network service {name} is not found")))?)
    }
}

/// The descriptor that came beside an answer.
async fn socket(wire: &Wire, endpoint: NetworkServiceEndpoint) -> Result<NextHop> {
    let inode: Inode =
        endpoint.url.parse().map_err(|error| Reason::Refused(format!("{}: {error}", endpoint.name)))?;
    let received = match wire.hub() {
        Some(hub) => hub.take(inode, Instant::now() + DESCRIPTOR).await,
        None => None,
    };
    let received =
        received.ok_or_else(|| Reason::Unavailable(format!("the descriptor of {inode} did not come")))?;
    Ok(NextHop::of(Registered { endpoint, socket: Arc::new(received) }))
}

impl Element for FindEndpoint {
    const NAME: &'static str = "find";
    const ORDER: Order = Order::STATE.before(&["veth", "relay"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let hop = self.find(&mut request.connection, &request.context).await?;
        request.context.scope.insert(Chosen(hop.clone()));
        hop.choose(&mut request.context);
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        if let Some(chosen) = close.context.scope.get::<Chosen>() {
            chosen.0.clone().choose(&mut close.context);
        }
        next.close(close).await
    }
}

#[cfg(test)]
mod tests {
    use tonic::service::Routes;

    use super::*;
    use crate::control_plane::registry::{Endpoints, Services};
    use nsm::{
        api::pb::registry::{
            network_service_endpoint_registry_server::NetworkServiceEndpointRegistryServer as EndpointServer,
            network_service_registry_server::NetworkServiceRegistryServer as ServiceServer,
        },
        chain::laws,
        task::Tasks,
        testing::{self, Counted, Given},
    };

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws_with_named_and_chosen_endpoints() {
        let tasks = Tasks::default();
        let socket = Counted::new();
        let services = Services::default();
        let endpoints = Endpoints::new("node", &tasks);
        services.put(NetworkService { name: "lb".into(), ..NetworkService::default() });
        let endpoint = NetworkServiceEndpoint {
            name: "lb-1".into(),
            network_service_names: vec!["lb".into()],
            url: socket.inode().to_string(),
            ..NetworkServiceEndpoint::default()
        };
        endpoints.put(endpoint, Arc::new(socket.descriptor()));
        let routes = Routes::new(ServiceServer::new(services)).add_service(EndpointServer::new(endpoints));
        let nsmgr = testing::serve_routes(routes).await;
        for name in ["", "lb-1"] {
            laws::check_with(
                || {
                    Given(
                        FindEndpoint::new(nsmgr.dialer.clone()),
                        move |connection: &mut Connection, _: &mut CallContext| {
                            connection.network_service = "lb".into();
                            connection.network_service_endpoint_name = name.into();
                        },
                    )
                },
                || socket.open(),
            )
            .await
            .unwrap();
        }
        tasks.stop().await;
    }
}
