// SPDX-License-Identifier: Apache-2.0
//! Serves the endpoint chain on a unix socket, offers it to targets, and checks that it answers.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::health::{Health, Part};
use crate::{
    api::pb::registry::{Destination, Match, NetworkService, NetworkServiceEndpoint, NetworkServiceLabels},
    app::{PAYLOAD, ServeError, Server},
    chain::{Next, causes},
    registry::Offer,
    server::{self, monitor::Connections},
    task::Tasks,
    transport::{Dialer, Identity, origin},
};

/// Time between two checks of the own endpoint while it answers: a check costs a TLS handshake.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Time until the next check of an endpoint that does not answer.
const CHECK_AGAIN: Duration = Duration::from_secs(5);
/// Timeout of a check.
const CHECK_WITHIN: Duration = Duration::from_secs(4);
/// Label by which targets find the proxy of their node.
const NODE_NAME: &str = "nodeName";

/// Listens in a directory below `parent` and serves a chain, the connections it publishes, and
/// health.
///
/// # Errors
/// [`ServeError`]; nothing is left behind then.
pub async fn serve(
    parent: &Path,
    name: &str,
    chain: Next,
    connections: Connections,
    identity: Identity,
    health: &Health,
    tasks: &Tasks,
) -> Result<Server, ServeError> {
    let routes = server::Endpoint::new(chain, connections).routes().add_service(health.server());
    Server::below(parent, name, identity, routes, tasks).await
}

/// The registration: the network service of the conduit, for targets of the same node, and this
/// endpoint of it.
pub fn offer(name: &str, service: &str, node: &str, socket: &Path) -> Offer {
    let same_node = || [(NODE_NAME.to_owned(), "{{.nodeName}}".to_owned())].into();
    let rule = Match {
        source_selector: same_node(),
        routes: vec![Destination { destination_selector: same_node(), ..Destination::default() }],
        ..Match::default()
    };
    let network_service = NetworkService {
        name: service.to_owned(),
        payload: PAYLOAD.into(),
        matches: vec![rule],
        ..NetworkService::default()
    };
    let labels = [(NODE_NAME.to_owned(), node.to_owned())].into();
    let labels = [(service.to_owned(), NetworkServiceLabels { labels })];
    let endpoint = NetworkServiceEndpoint {
        name: name.to_owned(),
        network_service_names: vec![service.to_owned()],
        network_service_labels: if node.is_empty() { Default::default() } else { labels.into() },
        ..NetworkServiceEndpoint::default()
    };
    Offer { services: vec![network_service], endpoint, socket: Some(socket.to_owned()) }
}

/// Checks every ten seconds over mutual TLS that the endpoint answers, every five while it does
/// not, and reports the result. Does not return. Without an identity the endpoint cannot be
/// checked; a restart would not help, so Liveness does not depend on that.
pub async fn check(dialer: Dialer, limit: Duration, health: Health) {
    loop {
        let start = Instant::now();
        let pause = match dialer.identity.ready(start + CHECK_WITHIN).await {
            Ok(_) => report(check_once(&dialer, limit).await, &health),
            Err(error) => {
                health.lacks(Part::Endpoint, causes(&error));
                CHECK_AGAIN
            }
        };
        sleep_until(start + pause).await;
    }
}

/// Reports the result of a check, and returns the time until the next one.
fn report(result: Result<(), String>, health: &Health) -> Duration {
    match result {
        Ok(()) => {
            health.set(Part::Endpoint, true, "answers");
            CHECK_EVERY
        }
        Err(reason) => {
            health.set(Part::Endpoint, false, reason);
            CHECK_AGAIN
        }
    }
}

/// Connects within the dialer's timeout, and calls within `limit`.
async fn check_once(dialer: &Dialer, limit: Duration) -> Result<(), String> {
    let last = Instant::now() + CHECK_WITHIN;
    let wire =
        dialer.dial(last.min(Instant::now() + dialer.dial_timeout)).await.map_err(|error| causes(&error))?;
    let deadline = last.min(Instant::now() + limit);
    let message = wire.call(HealthCheckRequest::default(), Some(deadline), dialer.token_lifetime);
    let message = message.map_err(|error| causes(&error))?;
    let mut client = HealthClient::with_origin(wire, origin());
    match timeout_at(deadline, client.check(message)).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(Ok(answer)) => Err(format!("answers {}", answer.get_ref().status().as_str_name())),
        Ok(Err(status)) => Err(causes(&status)),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

#[cfg(test)]
mod tests;
