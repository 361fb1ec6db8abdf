// SPDX-License-Identifier: Apache-2.0
//! Sends a Request to the forwarder of the node (NSM `discoverforwarder` and `clientinfo`).
//!
//! The socket of a forwarder is looked up for each call: a forwarder that was started again has
//! another one.
//!
//! # State
//! The name of the connection's forwarder.

use std::sync::Arc;

use super::FORWARDER_SERVICE;
use crate::control_plane::{
    passthrough::NextHop,
    registry::{Endpoints, Registered, Services},
};
use nsm::{
    api::{Connection, State},
    chain::{Close, Element, Next, Order, Reason, Request, Result, Scope},
};

/// Element of nsmgr.
#[derive(Clone)]
pub(super) struct FindForwarder {
    node: Arc<str>,
    services: Services,
    endpoints: Endpoints,
}

impl FindForwarder {
    pub(super) fn new(node: &str, services: Services, endpoints: Endpoints) -> Self {
        Self { node: node.into(), services, endpoints }
    }

    fn forwarder(&self, service: &str) -> Result<Registered> {
        if self.services.get(service).is_none() {
            return Err(Reason::Refused(format!("network service {service} is not found")).into());
        }
        let found = self.endpoints.all().into_iter().find(|registered| {
            registered.endpoint.network_service_names.iter().any(|service| service == FORWARDER_SERVICE)
        });
        Ok(found.ok_or_else(|| Reason::Refused("no candidates found".into()))?)
    }

    /// The connection's forwarder, if it is registered.
    fn known(&self, scope: &Scope) -> Option<Registered> {
        self.endpoints.get(&scope.get::<Forwarder>()?.0)
    }
}

/// Name of the forwarder of a connection.
struct Forwarder(String);

impl Element for FindForwarder {
    const NAME: &'static str = "find";
    const ORDER: Order = Order::STATE.before(&["relay"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let connection = &mut request.connection;
        connection.labels.entry("nodeName".into()).or_insert_with(|| self.node.to_string());
        let known = self.known(&request.context.scope);
        let forwarder = match known.filter(|_| connection.state() != State::ReselectRequested) {
            Some(known) => known,
            None => self.forwarder(&connection.network_service)?,
        };
        request.context.scope.insert(Forwarder(forwarder.endpoint.name.clone()));
        NextHop::of(forwarder).choose(&mut request.context);
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        if let Some(forwarder) = self.known(&close.context.scope) {
            NextHop::of(forwarder).choose(&mut close.context);
        }
        next.close(close).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsm::{
        api::pb::registry::{NetworkService, NetworkServiceEndpoint},
        chain::{CallContext, laws},
        task::Tasks,
        testing::{Counted, Given},
    };

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let tasks = Tasks::default();
        let socket = Arc::new(Counted::new().descriptor());
        let services = Services::default();
        let endpoints = Endpoints::new("node", &tasks);
        services.put(NetworkService { name: "lb".into(), ..NetworkService::default() });
        let forwarder = NetworkServiceEndpoint {
            name: "forwarder".into(),
            network_service_names: vec![FORWARDER_SERVICE.into()],
            ..NetworkServiceEndpoint::default()
        };
        endpoints.put(forwarder, Arc::clone(&socket));
        let find = || FindForwarder::new("node", services.clone(), endpoints.clone());
        laws::check_with(
            || {
                Given(find(), |connection: &mut Connection, _: &mut CallContext| {
                    connection.network_service = "lb".into()
                })
            },
            || Arc::strong_count(&socket),
        )
        .await
        .unwrap();
        tasks.stop().await;
    }
}
