// SPDX-License-Identifier: Apache-2.0

use std::{fs, path::Path};

use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::{
    api::pb::registry::NetworkService,
    elements::update_token::UpdateToken,
    registry::testing::Nsmgr,
    testing::{Authority, eventually, soon},
    transport::{Dialer, origin},
};

const LIMIT: Duration = Duration::from_secs(5);

fn builder(folder: &Path, tasks: &Tasks, authority: &Authority) -> EndpointBuilder {
    Endpoint::builder("web-1", authority.identity("web-1"), tasks).sockets(folder).offer("web")
}

#[tokio::test]
async fn it_serves_health_until_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let authority = Authority::new("a.test");
    let endpoint = builder(folder.path(), &tasks, &authority).serve().await.unwrap();
    let dialer = Dialer {
        address: endpoint.address().clone(),
        identity: authority.identity("probe"),
        dial_timeout: LIMIT,
        token_lifetime: Duration::from_secs(600),
    };
    for name in ["", "networkservice.NetworkService", "connection.MonitorConnection"] {
        let wire = dialer.dial(soon()).await.unwrap();
        let request = HealthCheckRequest { service: name.to_owned() };
        let request = wire.call(request, Some(soon()), dialer.token_lifetime).unwrap();
        let answer = HealthClient::with_origin(wire, origin()).check(request).await.unwrap().into_inner();
        assert_eq!(answer.status().as_str_name(), "SERVING", "{name}");
    }
    assert!(endpoint.registration().is_none());
    endpoint.registered().await.unwrap();
    endpoint.stop(LIMIT).await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of the socket");
    tasks.stop().await;
}

#[tokio::test]
async fn it_is_registered_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let authority = Authority::new("a.test");
    let address = Address::Unix(folder.path().join("nsm.sock"));
    let nsmgr = Nsmgr::start(&authority, &address).await;
    let endpoint = builder(folder.path(), &tasks, &authority).offer("shop").label("app", "a");
    let endpoint = endpoint.register_with(&address).serve().await.unwrap();
    endpoint.registered().await.unwrap();
    assert_eq!(nsmgr.services(), ["shop", "web"]);
    let entries = nsmgr.endpoints();
    assert_eq!(entries[0].name, "web-1");
    assert_eq!(entries[0].network_service_names, ["web", "shop"]);
    assert_eq!(entries[0].network_service_labels["shop"].labels["app"], "a");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(endpoint.run(async { drop(stopped.await) }));
    drop(stop);
    running.await.unwrap().unwrap();
    assert!(nsmgr.endpoints().is_empty(), "it is unregistered");
    nsmgr.stop().await;
    eventually(|| tasks.len(), |left| *left == 0).await;
    tasks.stop().await;
}

#[tokio::test]
async fn a_service_of_others_is_offered_and_not_registered() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let authority = Authority::new("a.test");
    let target = Address::Unix(folder.path().join("nsm.sock"));
    let nsmgr = Nsmgr::start(&authority, &target).await;
    let endpoint = Endpoint::builder("web-1", authority.identity("web-1"), &tasks).sockets(folder.path());
    let endpoint = endpoint.offer_existing("web").label("app", "a").register_with(&target);
    let endpoint = endpoint.serve().await.unwrap();
    endpoint.registered().await.unwrap();
    assert!(nsmgr.services().is_empty());
    assert_eq!(nsmgr.endpoints()[0].network_service_labels["web"].labels["app"], "a");
    endpoint.stop(LIMIT).await;
    nsmgr.stop().await;
    tasks.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_the_registry_refuses_ends() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let authority = Authority::new("a.test");
    let address = Address::Unix(folder.path().join("nsm.sock"));
    let nsmgr = Nsmgr::start(&authority, &address).await;
    let payload = |payload: &str| NetworkService {
        name: "api".into(),
        payload: payload.into(),
        ..NetworkService::default()
    };
    let first = builder(folder.path(), &tasks, &authority).offer_service(payload("IP"));
    let first = first.register_with(&address).serve().await.unwrap();
    first.registered().await.unwrap();
    let second = Endpoint::builder("web-2", authority.identity("web-2"), &tasks).sockets(folder.path());
    let second = second.offer_service(payload("ETHERNET"));
    let ended = tokio::time::timeout_at(soon(), second.register_with(&address).run(std::future::pending()));
    let error = ended.await.unwrap().unwrap_err();
    assert!(matches!(error, EndpointError::Refused(_)), "{error:?}");
    first.stop(LIMIT).await;
    nsmgr.stop().await;
    tasks.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_served_names_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let authority = Authority::new("a.test");
    let nsmgr = Address::Unix("/nonexistent".into());
    let nothing = Endpoint::builder("web-1", authority.identity("web-1"), &tasks).register_with(&nsmgr);
    let nothing = nothing.serve().await.err().unwrap();
    assert!(nothing.to_string().contains("no network service is offered"), "{nothing}");
    let place = builder(folder.path(), &tasks, &authority).sockets("/proc").serve().await.err().unwrap();
    assert!(causes(&place).contains("/proc"), "{}", causes(&place));
    let order = builder(folder.path(), &tasks, &authority).chain(|chain| chain.with(UpdateToken::new(LIMIT)));
    let order = order.serve().await.err().unwrap();
    assert!(causes(&order).contains("`update_token` must stand before"), "{}", causes(&order));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}
