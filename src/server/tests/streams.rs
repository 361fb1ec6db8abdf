// SPDX-License-Identifier: Apache-2.0

//! Tests the monitor streams of peers.

use super::*;

fn kinds(event: &ConnectionEvent) -> (ConnectionEventType, usize) {
    (ConnectionEventType::try_from(event.r#type).unwrap(), event.connections.len())
}

#[tokio::test]
async fn peers_monitor_connections_and_take_snapshots_of_them() {
    let world = World::new().await;
    let wire = world.dial().await;
    let everything = MonitorScopeSelector::default;
    let mut events = monitor::watch(&wire, everything(), LIFETIME);
    drop(wire); // the stream keeps it open
    let mut next =
        async || kinds(&timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap().unwrap());
    assert_eq!(next().await, (ConnectionEventType::InitialStateTransfer, 0));
    world.connections.publish("a", named("a"));
    assert_eq!(next().await, (ConnectionEventType::Update, 1));
    world.connections.remove("a");
    assert_eq!(next().await, (ConnectionEventType::Delete, 1));
    drop(events);
    eventually(|| world.connections.streams(), |streams| *streams == 0).await;

    world.connections.publish("b", named("b"));
    let dialer = Dialer {
        address: world.address.clone(),
        identity: world.authority.identity("nsc"),
        dial_timeout: Duration::from_secs(5),
        token_lifetime: LIFETIME,
    };
    let snapshot = monitor::snapshot(&dialer, everything(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(kinds(&snapshot), (ConnectionEventType::InitialStateTransfer, 1));
    eventually(|| world.connections.streams(), |streams| *streams == 0).await;
}

#[tokio::test]
async fn a_snapshot_from_a_peer_that_is_not_there_ends_in_time() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let dialer = Dialer {
        address: Address::Unix(folder.path().join("nobody.sock")),
        identity: authority.identity("nsc"),
        dial_timeout: Duration::from_secs(5),
        token_lifetime: LIFETIME,
    };
    let begin = Instant::now();
    let error = monitor::snapshot(&dialer, MonitorScopeSelector::default(), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, monitor::SnapshotError::Dial(_)), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}
