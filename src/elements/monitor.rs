// SPDX-License-Identifier: Apache-2.0

//! Tell those who watch what becomes of connections (NSM `monitor`).
//!
//! A connection is published under our own id when its Request succeeds, and removed when its Close is done, well or not.
//!
//! A pass-through also watches the next hop over the wire in the scope, and publishes what it hears:
//! 1. An event is about our connection if its path has our id at our index, and our index or the next is its own.
//! 2. The next hop's connection is gone or `DOWN`, or the stream ends: ours is `DOWN`.
//! 3. Otherwise the path right of our segment, and the context, become the next hop's.
//!
//! # Order
//! Below `metadata`.
//!
//! # State
//! That it is published, and the task that watches. A Request that fails leaves both.
//!
//! # Close
//! The watching ends first. What was published is removed after the Close, so that nobody heals a connection that is being closed.

use std::time::Duration;

use futures::StreamExt;

use crate::{
    api::{
        Connection, PathSegment, State,
        pb::connection::{ConnectionEvent, ConnectionEventType, MonitorScopeSelector},
    },
    chain::{Close, Element, Next, Order, Request, Result, Task},
    transport::{
        Wire,
        monitor::{Connections, watch},
    },
};

/// Element that publishes.
#[derive(Clone)]
pub struct Monitor {
    connections: Connections,
    follows: Option<Duration>,
}

/// Removes the connection on drop.
struct Published {
    connections: Connections,
    id: String,
}

struct Following(#[expect(dead_code, reason = "a guard")] Task);

/// Our segment of a connection.
#[derive(Clone, Debug)]
struct Own {
    id: String,
    name: String,
    index: usize,
}

/// What an event means for us.
#[derive(Debug, PartialEq)]
enum Heard<'a> {
    /// Rule 2.
    Lost,
    /// Rule 3.
    News(&'a Connection),
    /// Rule 1: about others.
    Nothing,
}

impl Monitor {
    /// Publish into `connections`.
    pub fn new(connections: Connections) -> Self {
        Self { connections, follows: None }
    }

    /// For a pass-through: watch the next hop as well, with tokens of this lifetime.
    pub fn pass_through(connections: Connections, token_lifetime: Duration) -> Self {
        Self { connections, follows: Some(token_lifetime) }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.connections.remove(&self.id);
    }
}

impl Own {
    fn of(connection: &Connection) -> Option<Self> {
        let PathSegment { id, name, .. } = connection.own_segment()?.clone();
        Some(Self { id, name, index: connection.index() })
    }

    fn selector(&self) -> MonitorScopeSelector {
        let segment = PathSegment { id: self.id.clone(), name: self.name.clone(), ..PathSegment::default() };
        MonitorScopeSelector { path_segments: vec![segment], ..MonitorScopeSelector::default() }
    }

    /// Rules 1 to 3.
    fn hear<'a>(&self, event: &'a ConnectionEvent) -> Heard<'a> {
        let ours = |connection: &&Connection| {
            let own = connection.segments().get(self.index);
            own.is_some_and(|own| own.id == self.id)
                && [self.index, self.index + 1].contains(&connection.index())
        };
        match event.connections.values().find(ours) {
            None => Heard::Nothing,
            Some(_) if event.r#type() == ConnectionEventType::Delete => Heard::Lost,
            Some(connection) if connection.state() == State::Down => Heard::Lost,
            Some(connection) => Heard::News(connection),
        }
    }

    /// Rule 3.
    fn take_over(&self, known: &mut Connection, news: &Connection) {
        let right = news.segments().iter().skip(self.index + 1).cloned();
        let segments = &mut known.path_mut().path_segments;
        segments.truncate(self.index + 1);
        segments.extend(right);
        known.context.clone_from(&news.context);
        known.state = news.state;
    }
}

/// Republish what the next hop says until it falls silent.
async fn follow(own: Own, wire: Wire, lifetime: Duration, connections: Connections) {
    let mut events = watch(&wire, own.selector(), lifetime);
    while let Some(Ok(event)) = events.next().await {
        match own.hear(&event) {
            Heard::Nothing => {}
            Heard::Lost => break,
            Heard::News(news) => {
                let Some(known) = connections.get(&own.id) else { return };
                let mut connection = Connection::clone(&known);
                own.take_over(&mut connection, news);
                if connection != *known {
                    connections.publish(&own.id, connection);
                }
            }
        }
    }
    connections.down(&own.id);
}

impl Element for Monitor {
    const NAME: &'static str = "monitor";
    const ORDER: Order = Order { after: &["begin", "metadata"], before: &[] };

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let (scope, events) = (request.context.scope.clone(), request.context.events.clone());
        let id = request.connection.id.clone();
        let mut connection = next.request(request).await?;
        connection.set_state(State::Up);
        if scope.get::<Published>().is_none() {
            scope.insert(Published { connections: self.connections.clone(), id: id.clone() });
        }
        self.connections.publish(&id, (*connection).clone());
        let wire = scope.get::<Wire>().map(|wire| (*wire).clone());
        if let (Some(lifetime), Some(wire), Some(own)) = (self.follows, wire, Own::of(&connection)) {
            let connections = self.connections.clone();
            scope.insert(Following(events.spawn(move |_| follow(own, wire, lifetime, connections))));
        }
        Ok(connection)
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        drop(close.context.scope.take::<Following>());
        let _published = close.context.scope.take::<Published>();
        next.close(close).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{Call, Chain, Error, Reason, Tasks, begin::BeginLayer, laws, metadata::MetadataLayer},
        elements::{connect::Connect, given, update_path::UpdatePath},
        transport::testing::eventually,
    };

    fn chain(connections: &Connections, tasks: &Tasks) -> Next {
        let seen = connections.clone();
        let end = tower::service_fn(move |call: Call| {
            let there = seen.get("a").is_some();
            async move {
                match &call {
                    Call::Close(_) => assert!(there, "removed before the Close was done"),
                    Call::Request(request) if request.connection.payload == "bad" => {
                        return Err(Error::from(Reason::Refused("as the test wants".into())));
                    }
                    Call::Request(_) => {}
                }
                Ok(call.into_connection())
            }
        });
        let rows =
            Chain::new().layer("begin", BeginLayer::endpoint(tasks.clone())).layer("metadata", MetadataLayer);
        rows.with(Monitor::new(connections.clone())).build(end).unwrap()
    }

    fn request(payload: &str) -> Request {
        let mut connection = Connection::named("a");
        given::path(&mut connection, 1, &[None, None]);
        connection.payload = payload.into();
        Request::new(connection)
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_hear_of_each_good_request_and_of_the_close() {
        let (connections, tasks) = (Connections::default(), Tasks::default());
        let chain = chain(&connections, &tasks);
        let mut events = connections.subscribe(MonitorScopeSelector::default()).unwrap();
        let mut next = async || {
            let event = events.next().await.unwrap().unwrap();
            let payload = event.connections.values().next().map(|c| c.payload.clone()).unwrap_or_default();
            (event.r#type(), payload)
        };
        use ConnectionEventType::*;
        assert_eq!(next().await, (InitialStateTransfer, String::new()));
        chain.request(request("bad")).await.unwrap_err();
        chain.request(request("first")).await.unwrap();
        chain.request(request("bad")).await.unwrap_err();
        chain.request(request("second")).await.unwrap();
        chain.close(Close::new(request("").connection)).await.unwrap();
        assert_eq!(next().await, (Update, "first".into()));
        assert_eq!(next().await, (Update, "second".into()), "a failed refresh says nothing");
        assert_eq!(next().await, (Delete, "second".into()));
        assert!(connections.is_empty());
        tasks.stop().await;
    }

    #[test]
    fn an_event_of_the_next_hop_is_understood_by_the_table() {
        let own = Own { id: "own".into(), name: "hop1".into(), index: 1 };
        let from = |index: u32, id: &str, kind: ConnectionEventType, state: State| {
            let mut connection = *Connection::named("next");
            given::path(&mut connection, index, &[None; 4]);
            connection.path_mut().path_segments[1].id = id.into();
            connection.set_state(state);
            ConnectionEvent { r#type: kind.into(), connections: [("next".to_owned(), connection)].into() }
        };
        use ConnectionEventType::{Delete, InitialStateTransfer as First, Update};
        // rule, event, whether it is lost; none: about others
        let table = [
            ("3 first event", from(2, "own", First, State::Up), Some(false)),
            ("3 update", from(2, "own", Update, State::Up), Some(false)),
            ("3 of a hop with our name", from(1, "own", Update, State::Up), Some(false)),
            ("2 down", from(2, "own", Update, State::Down), Some(true)),
            ("2 down at once", from(2, "own", First, State::Down), Some(true)),
            ("2 deleted", from(2, "own", Delete, State::Up), Some(true)),
            ("1 another connection", from(2, "other", Delete, State::Up), None),
            ("1 another index", from(3, "own", Delete, State::Up), None),
            ("1 the hop before", from(0, "own", Update, State::Down), None),
            ("1 no connection", ConnectionEvent::default(), None),
        ];
        for (rule, event, lost) in table {
            let heard = match own.hear(&event) {
                Heard::Nothing => None,
                heard => Some(heard == Heard::Lost),
            };
            assert_eq!(heard, lost, "{rule}");
        }
    }

    #[test]
    fn the_next_hops_path_and_context_are_taken_over_and_ours_is_kept() {
        let own = Own { id: "own".into(), name: "hop1".into(), index: 1 };
        let (mut known, mut news) = (*Connection::named("own"), *Connection::named("next"));
        given::path(&mut known, 1, &[Some(1), Some(2), Some(3), Some(4)]);
        given::path(&mut news, 2, &[None, None, None]);
        news.context_mut().mtu = 1400;
        let ours = known.segments()[..2].to_vec();
        own.take_over(&mut known, &news);
        assert_eq!((&known.segments()[..2], &known.segments()[2..]), (&*ours, &news.segments()[2..]));
        assert_eq!((known.id.as_str(), known.index(), known.context.unwrap().mtu), ("own", 1, 1400));
    }

    #[tokio::test]
    async fn a_pass_through_repeats_what_the_next_hop_says_until_it_is_down() {
        let (theirs, ours, tasks) = (Connections::default(), Connections::default(), Tasks::default());
        let begin = || {
            Chain::new().layer("begin", BeginLayer::endpoint(tasks.clone())).layer("metadata", MetadataLayer)
        };
        let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
        let next_hop = begin().with(Monitor::new(theirs.clone())).build(end).unwrap();
        let next_hop = Chain::new().with(UpdatePath::new("next")).build(next_hop).unwrap();
        let next_hop = given::serve_monitored(next_hop, theirs.clone()).await;
        let monitor = Monitor::pass_through(ours.clone(), Duration::from_secs(600));
        let chain = begin().with(monitor).build(Connect::new(next_hop.dialer.clone())).unwrap();

        let answer = chain.request(request("")).await.unwrap();
        let next = answer.segments()[2].id.clone();
        let mut news = Connection::clone(&theirs.get(&next).unwrap());
        let seen = || ours.get("a").map(|known| (known.state(), known.context.as_ref().map_or(0, |c| c.mtu)));
        assert_eq!(seen(), Some((State::Up, 0)));
        eventually(|| theirs.streams(), |streams| *streams == 1).await;
        news.context_mut().mtu = 1400;
        theirs.publish(&next, news);
        eventually(seen, |seen| *seen == Some((State::Up, 1400))).await;
        theirs.remove(&next);
        eventually(seen, |seen| *seen == Some((State::Down, 1400))).await;
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let connections = Connections::default();
        laws::check_with(|| Monitor::new(connections.clone()), || connections.len()).await.unwrap();
    }
}
