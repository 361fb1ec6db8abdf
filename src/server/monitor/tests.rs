// SPDX-License-Identifier: Apache-2.0

//! Tests the events that a reader receives, without real time.

use std::{future::pending, time::Duration};

use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status, service::Routes};

use super::*;
use crate::{
    api::{
        Connection, Path, PathSegment, State,
        pb::connection::{
            ConnectionEvent, ConnectionEventType, MonitorScopeSelector,
            monitor_connection_server::{MonitorConnection, MonitorConnectionServer},
        },
    },
    server::serve,
    testing::{Authority, soon},
    transport::{Address, Listener, Wire},
};

fn connection(id: &str) -> Connection {
    let segment =
        |name: &str, id: &str| PathSegment { name: name.into(), id: id.into(), ..PathSegment::default() };
    let path_segments = vec![segment("nsc", &format!("nsc-{id}")), segment("nse", id)];
    Connection { path: Some(Path { index: 1, path_segments }), ..*Connection::named(id) }
}

fn about(id: &str) -> MonitorScopeSelector {
    let path_segments = vec![PathSegment { id: id.into(), ..PathSegment::default() }];
    MonitorScopeSelector { path_segments, ..MonitorScopeSelector::default() }
}

/// The present item of the stream: `None` if it waits.
fn now(stream: &mut Subscription) -> Option<Option<Result<ConnectionEvent, Status>>> {
    stream.next().now_or_never()
}

fn summary(event: ConnectionEvent) -> (ConnectionEventType, Vec<String>) {
    let mut ids: Vec<_> =
        event.connections.into_iter().map(|(key, c)| format!("{key}={} {:?}", c.id, c.state())).collect();
    ids.sort();
    (ConnectionEventType::try_from(event.r#type).unwrap(), ids)
}

fn next(stream: &mut Subscription) -> (ConnectionEventType, Vec<String>) {
    summary(now(stream).expect("an event is there").expect("the stream is open").expect("no error"))
}

use ConnectionEventType::{Delete, InitialStateTransfer, Update};

#[test]
fn the_first_event_comes_at_once_even_if_it_is_empty() {
    let connections = Connections::default();
    let mut stream = connections.subscribe(MonitorScopeSelector::default()).unwrap();
    assert_eq!(next(&mut stream), (InitialStateTransfer, vec![]));
    assert!(now(&mut stream).is_none(), "then it waits");
}

#[test]
fn the_first_event_has_all_selected_connections() {
    let connections = Connections::default();
    for id in ["a", "b", "c"] {
        connections.publish(id, connection(id));
    }
    let mut all = connections.subscribe(MonitorScopeSelector::default()).unwrap();
    assert_eq!(
        next(&mut all),
        (InitialStateTransfer, ["a=a Up", "b=b Up", "c=c Up"].map(String::from).to_vec())
    );
    assert!(now(&mut all).is_none());
    let mut one = connections.subscribe(about("nsc-b")).unwrap();
    assert_eq!(next(&mut one), (InitialStateTransfer, vec!["b=b Up".into()]));
}

#[test]
fn changes_reach_the_readers_that_selected_the_connection() {
    let connections = Connections::default();
    let mut a = connections.subscribe(about("a")).unwrap();
    let mut b = connections.subscribe(about("b")).unwrap();
    for stream in [&mut a, &mut b] {
        assert_eq!(next(stream), (InitialStateTransfer, vec![]));
    }
    connections.publish("a", connection("a"));
    connections.publish("a", connection("a"));
    connections.down("a");
    connections.down("a");
    connections.remove("a");
    connections.remove("a");
    connections.down("a");
    assert_eq!(next(&mut a), (Update, vec!["a=a Up".into()]));
    assert_eq!(next(&mut a), (Update, vec!["a=a Up".into()]), "every publication is an event");
    assert_eq!(next(&mut a), (Update, vec!["a=a Down".into()]));
    assert_eq!(next(&mut a), (Delete, vec!["a=a Down".into()]), "DELETE carries the last state");
    assert!(now(&mut a).is_none(), "what is down or gone already is no event");
    assert!(now(&mut b).is_none(), "nothing was for the other");
    assert!(connections.is_empty());
}

#[test]
fn events_carry_the_publishers_id_not_that_of_the_message() {
    let connections = Connections::default();
    connections.publish("own", connection("theirs"));
    let mut stream = connections.subscribe(MonitorScopeSelector::default()).unwrap();
    assert_eq!(next(&mut stream), (InitialStateTransfer, vec!["own=own Up".into()]));
}

#[test]
fn a_slow_reader_is_ended_with_an_error_and_delays_no_other() {
    let connections = Connections::new(Limits { events: 2, ..Limits::default() });
    let mut slow = connections.subscribe(MonitorScopeSelector::default()).unwrap();
    let mut quick = connections.subscribe(MonitorScopeSelector::default()).unwrap();
    assert_eq!(next(&mut quick).0, InitialStateTransfer);
    for _ in 0..4 {
        connections.publish("a", connection("a"));
        assert_eq!(next(&mut quick).0, Update);
    }
    assert_eq!(connections.streams(), 1, "the slow reader holds no memory of the store any more");
    assert_eq!(next(&mut slow).0, InitialStateTransfer);
    assert_eq!(
        (next(&mut slow).0, next(&mut slow).0),
        (Update, Update),
        "what was queued in time is delivered"
    );
    let error = now(&mut slow).unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(now(&mut slow).unwrap().is_none(), "then the stream is over");
}

#[test]
fn a_reader_that_leaves_frees_its_place() {
    let connections = Connections::new(Limits { streams: 2, ..Limits::default() });
    let subscribe = || connections.subscribe(MonitorScopeSelector::default());
    let first = subscribe().unwrap();
    let second = subscribe().unwrap();
    assert_eq!(subscribe().err(), Some(Refused::Streams(2)));
    drop(first);
    let third = subscribe().unwrap();
    assert_eq!(connections.streams(), 2);
    drop((second, third));
    assert_eq!(connections.streams(), 0);
}

#[test]
fn streams_end_without_an_error_with_their_connections() {
    let connections = Connections::default();
    let mut stream = connections.subscribe(MonitorScopeSelector::default()).unwrap();
    connections.publish("a", connection("a"));
    drop(connections);
    assert_eq!((next(&mut stream).0, next(&mut stream).0), (InitialStateTransfer, Update));
    assert!(now(&mut stream).unwrap().is_none());
}

#[test]
fn a_refusal_names_the_thing_the_value_and_the_limit() {
    let connections = Connections::new(Limits { streams: 1, selector: 3, first: 64, ..Limits::default() });
    let services = |n| MonitorScopeSelector { network_services: vec!["x".into(); n], ..Default::default() };
    let segments =
        |n| MonitorScopeSelector { path_segments: vec![PathSegment::default(); n], ..Default::default() };
    let big = connection(&"b".repeat(64));
    connections.publish("b", big.clone());
    let table = [
        (segments(4), "the selector has 4 path segments (at most 3)"),
        (services(4), "the selector has 4 network services (at most 3)"),
        (MonitorScopeSelector::default(), "bytes (at most 64): narrow the selector"),
    ];
    for (selector, expected) in table {
        let status = Status::from(connections.subscribe(selector).err().expect("refused"));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains(expected), "{}", status.message());
    }
    let _only = connections.subscribe(services(3)).unwrap();
    let status = Status::from(connections.subscribe(services(1)).err().expect("refused"));
    assert_eq!(status.message(), "1 monitor streams are open (at most 1)");
    assert_eq!(connections.get("b").unwrap().segments(), big.segments(), "a refusal changes nothing");
    assert_eq!((connections.len(), connections.streams()), (1, 1));
}

#[test]
fn a_change_between_two_states_is_never_missed_by_a_new_reader() {
    let connections = Connections::default();
    connections.publish("a", Connection { state: State::Down.into(), ..connection("a") });
    let mut stream = connections.subscribe(about("a")).unwrap();
    connections.publish("a", connection("a"));
    assert_eq!(
        next(&mut stream),
        (InitialStateTransfer, vec!["a=a Down".into()]),
        "the snapshot of that moment"
    );
    assert_eq!(next(&mut stream), (Update, vec!["a=a Up".into()]));
}

/// A peer that never answers a monitor call.
struct Mute;

#[tonic::async_trait]
impl MonitorConnection for Mute {
    type MonitorConnectionsStream = Events;

    async fn monitor_connections(
        &self,
        _: Request<MonitorScopeSelector>,
    ) -> Result<Response<Events>, Status> {
        pending().await
    }
}

#[tokio::test]
async fn a_stream_that_a_peer_does_not_open_ends() {
    let authority = Authority::new("test.domain");
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("peer.sock"));
    let listener = Listener::bind(&address, authority.identity("peer")).await.unwrap();
    let routes = Routes::new(MonitorConnectionServer::new(Mute));
    let server = serve(listener, routes, pending(), Duration::ZERO);
    let _server = AbortOnDropHandle::new(tokio::spawn(server));
    let wire = Wire::dial(&address, authority.svid("client"), soon()).await.unwrap();

    tokio::time::pause();
    let start = Instant::now();
    let mut events = watch(&wire, about("a"), Duration::from_secs(600));
    let first = timeout(Duration::from_secs(3600), events.next()).await.expect("no bound in time");
    let status = first.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(events.next().await.is_none());
}
