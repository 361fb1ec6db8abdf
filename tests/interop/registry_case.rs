// SPDX-License-Identifier: Apache-2.0
//! Checks of our registrations at the Go manager: by descriptor, refreshed, watched, withdrawn.

use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use nsm::{
    api::pb::registry::{NetworkService, NetworkServiceEndpoint},
    registry::{Client, Found, Offer, Registration, Registry, Settings, State},
    transport::Dialer,
};
use tokio::time::timeout;

use crate::{
    node::TIMEOUT,
    ours::{Endpoint, POD},
    programs::Outcome,
    registries::ShortLived,
};

/// The network service it offers.
const SERVICE: &str = "service";
/// Deadline of our calls to the registry: the manager drops an entry this long before it expires.
const DEADLINE: Duration = Duration::from_secs(2);

/// A registry behind the manager.
pub(crate) fn client(dialer: &Dialer) -> Client {
    Client::new(dialer.clone(), DEADLINE)
}

/// Keeps our endpoint registered.
pub(crate) fn register<R: Registry>(registry: R, endpoint: &Endpoint) -> Registration<R> {
    let service = NetworkService { name: SERVICE.into(), payload: "ETHERNET".into(), ..Default::default() };
    let entry = NetworkServiceEndpoint {
        name: POD.into(),
        network_service_names: vec![SERVICE.into()],
        ..Default::default()
    };
    let offer = Offer { services: vec![service], endpoint: entry, socket: Some(endpoint.socket.clone()) };
    let settings = Settings { deadline: DEADLINE, margin: Duration::from_secs(1), ..Settings::default() };
    Registration::start(registry, offer, settings)
}

/// Waits until the registry has accepted us.
pub(crate) async fn registered<R: Registry>(registration: &Registration<R>) -> Outcome<()> {
    let mut state = registration.state();
    let wait = async {
        state.wait_for(State::is_registered).await.map(drop).map_err(|_| "the registration ended".to_owned())
    };
    match timeout(TIMEOUT / 2, wait).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("not registered: {:?}", registration.state().borrow().failure())),
    }
}

/// Registered, found with a descriptor's URL, refreshed past its first expiry without a gap,
/// unregistered.
pub(crate) async fn registers_refreshes_and_unregisters<R: Registry>(
    registry: R,
    dialer: &Dialer,
    endpoint: &Endpoint,
) -> Outcome<()> {
    let life = Duration::from_secs(6);
    let watcher = client(dialer);
    let registration = register(ShortLived { inner: registry, life }, endpoint);
    registered(&registration).await?;
    let found = find(&watcher).await?.ok_or("registered, but not found")?;
    if !found.url.starts_with("inode://") {
        return Err(format!("found at `{}`: want the URL of a descriptor", found.url));
    }

    let mut events = watch(&watcher).await?;
    let mut lasts = SystemTime::now();
    let end = Instant::now() + life + Duration::from_secs(2);
    while Instant::now() < end {
        let Some(entry) = next(&mut events, end).await? else { break };
        lasts = entry.ok_or("dropped while it was refreshed")?;
    }
    if lasts <= SystemTime::now() {
        return Err("not refreshed: its expiry has passed".to_owned());
    }

    registration.unregister().await.map_err(|error| format!("not unregistered: {error}"))?;
    let end = Instant::now() + TIMEOUT;
    while next(&mut events, end).await?.ok_or("no event of the deletion")?.is_some() {}
    match find(&watcher).await? {
        None => Ok(()),
        Some(_) => Err("unregistered, but still found".to_owned()),
    }
}

/// The entry of our endpoint.
pub(crate) async fn find(registry: &Client) -> Outcome<Option<NetworkServiceEndpoint>> {
    let like = NetworkServiceEndpoint { name: POD.into(), ..Default::default() };
    let mut found = registry.find(like, false).await.map_err(|error| error.to_string())?;
    match found.next().await {
        None => Ok(None),
        Some(Ok(answer)) => Ok(answer.network_service_endpoint),
        Some(Err(error)) => Err(error.to_string()),
    }
}

async fn watch(registry: &Client) -> Outcome<Found> {
    let like = NetworkServiceEndpoint { name: POD.into(), ..Default::default() };
    registry.find(like, true).await.map_err(|error| error.to_string())
}

/// The next event: when the entry expires, or `None` in it for a deletion. `None` if there is no
/// event until `end`.
async fn next(events: &mut Found, end: Instant) -> Outcome<Option<Option<SystemTime>>> {
    let left = end.saturating_duration_since(Instant::now());
    match timeout(left, events.next()).await {
        Err(_) => Ok(None),
        Ok(None) => Err("the watch ended".to_owned()),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(Some(Ok(event))) if event.deleted => Ok(Some(None)),
        Ok(Some(Ok(event))) => {
            let expires = event.network_service_endpoint.and_then(|entry| entry.expiration_time);
            let expires = expires.and_then(|time| SystemTime::try_from(time).ok());
            Ok(Some(Some(expires.ok_or("an entry without an expiry")?)))
        }
    }
}
