// SPDX-License-Identifier: Apache-2.0

//! Tests how a server ends.

use super::*;

#[tokio::test]
async fn the_server_ends_at_once_with_idle_connections_and_streams() {
    let mut world = World::new().await;
    let wire = world.dial().await;
    let idle = world.dial().await;
    let mut events = monitor::watch(&wire, MonitorScopeSelector::default(), LIFETIME);
    events.next().await.unwrap().unwrap();
    let took = world.stop().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let end = timeout(Duration::from_secs(5), events.next()).await.expect("the reader is told");
    assert!(end.is_none(), "the stream ends without an error: {end:?}");
    for wire in [wire, idle] {
        timeout(Duration::from_secs(5), wire.closed()).await.expect("connections are closed");
    }
    let dialled = Wire::dial(&world.address, world.authority.svid("nsc"), soon()).await;
    assert!(dialled.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_call_in_progress_may_finish_while_the_server_ends() {
    let mut world = World::new().await;
    let wire = world.dial().await;
    let request = wire.call(message(named("slow")), Some(soon()), LIFETIME).unwrap();
    let call = tokio::spawn({
        let wire = wire.clone();
        async move { send(&wire, request).await }
    });
    eventually(|| world.received().len(), |calls| *calls == 1).await;
    let gate = Arc::clone(&world.end.gate);
    let release = async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.add_permits(1);
    };
    let (_, ()) = tokio::join!(world.stop(), release);
    assert_eq!(call.await.unwrap().expect("answered").id, "slow");
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_cut_and_nothing_is_left() {
    let mut world = World::with(Duration::from_millis(200), |listener| listener).await;
    let wire = world.dial().await;
    let request = wire.call(message(named("slow")), Some(soon()), LIFETIME).unwrap();
    let call = tokio::spawn({
        let wire = wire.clone();
        async move { send(&wire, request).await }
    });
    eventually(|| world.received().len(), |calls| *calls == 1).await;
    let took = world.stop().await;
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
    assert!(call.await.unwrap().is_err());
    timeout(Duration::from_secs(5), wire.closed()).await.expect("the connection is closed");
}

#[tokio::test]
async fn dropping_the_server_cuts_its_connections() {
    let mut world = World::new().await;
    let wire = world.dial().await;
    world.request(&wire, message(named("a"))).await.unwrap();
    world.server.abort();
    assert!((&mut world.server).await.unwrap_err().is_cancelled());
    timeout(Duration::from_secs(5), wire.closed()).await.expect("the connection is closed");
}
