// SPDX-License-Identifier: Apache-2.0

//! Publishes connection events to monitor streams (NSM `monitor`).
//!
//! A connection is published under our own id when its Request succeeds, and removed when its Close
//! is done, successful or not.
//!
//! A pass-through also watches the next hop over the wire in the scope, and publishes its events
//! (`follow`).
//!
//! # Order
//! Below `metadata`.
//!
//! # State
//! A mark that it is published, and the task that watches. A Request that fails leaves both.
//!
//! # Close
//! The watching ends first. The connection is removed after the Close, so that no monitor heals a
//! connection that is being closed.

mod follow;

use std::time::Duration;

use self::follow::follow;
use crate::{
    api::{Connection, State},
    chain::{Close, Element, Next, Order, Request, Result},
    server::monitor::{Connections, Ours},
    task::Task,
    transport::Wire,
};

/// Element that publishes.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::{monitor::Monitor, update_path::UpdatePath},
///     server::monitor::{Connections, Limits},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let connections = Connections::new(Limits::default()); // the server shows them to monitors
/// let chain = Chain::new()
///     .with(UpdatePath::new("endpoint-1"))
///     .with(BeginLayer::endpoint(tasks.clone()))
///     .with(MetadataLayer)
///     .with(Monitor::new(connections.clone()))
///     .build()?;
/// chain.request(Request::new(Connection::named("a"))).await?;
/// assert!(!connections.is_empty());
/// tasks.stop().await;
/// # Ok(()) }
/// ```
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

impl Monitor {
    /// Publishes into `connections`.
    pub fn new(connections: Connections) -> Self {
        Self { connections, follows: None }
    }

    /// For a pass-through: watches the next hop as well, with tokens of this lifetime.
    pub fn pass_through(connections: Connections, token_lifetime: Duration) -> Self {
        Self { connections, follows: Some(token_lifetime) }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.connections.remove(&self.id);
    }
}

impl Element for Monitor {
    const NAME: &'static str = "monitor";
    const ORDER: Order = Order::STATE;

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
        let id = request.connection.id.clone();
        let mut connection = next.request(request).await?;
        connection.set_state(State::Up);
        if scope.get::<Published>().is_none() {
            scope.insert(Published { connections: self.connections.clone(), id: id.clone() });
        }
        self.connections.publish(&id, (*connection).clone());
        let wire = scope.get::<Wire>().map(|wire| (*wire).clone());
        if let (Some(lifetime), Some(wire), Some(ours)) = (self.follows, wire, Ours::of(&connection)) {
            let connections = self.connections.clone();
            scope.insert(Following(events.spawn(move |_| follow(ours, wire, lifetime, connections))));
        }
        Ok(connection)
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Following>());
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        let _published = close.context.scope.take::<Published>();
        next.close(close).await
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::{
        api::pb::connection::{ConnectionEventType, MonitorScopeSelector},
        chain::{Call, Chain, Error, Reason, begin::BeginLayer, laws, metadata::MetadataLayer},
        elements::{connect::Connect, update_path::UpdatePath},
        task::Tasks,
        testing::{self, eventually},
    };

    fn chain(connections: &Connections, tasks: &Tasks) -> Next {
        let seen = connections.clone();
        let end = tower::service_fn(move |call: Call| {
            let published = seen.get("a").is_some();
            async move {
                match &call {
                    Call::Close(_) => assert!(published, "removed before the Close was done"),
                    Call::Request(request) if request.connection.payload == "bad" => {
                        return Err(Error::from(Reason::Refused("as the test wants".into())));
                    }
                    Call::Request(_) => {}
                }
                Ok(call.into_connection())
            }
        });
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        rows.with(Monitor::new(connections.clone())).end(end).build().unwrap()
    }

    fn request(payload: &str) -> Request {
        let mut connection = Connection::named("a");
        testing::path(&mut connection, 1, &[None, None]);
        connection.payload = payload.into();
        Request::new(connection)
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_receive_each_successful_request_and_the_close() {
        let connections = Connections::default();
        let tasks = Tasks::default();
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

    #[tokio::test]
    async fn a_pass_through_repeats_the_next_hops_events() {
        let theirs = Connections::default();
        let ours = Connections::default();
        let tasks = Tasks::default();
        let begin = || Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
        let next_hop = begin().with(Monitor::new(theirs.clone())).end(end).build().unwrap();
        let next_hop = Chain::new().with(UpdatePath::new("next")).end(next_hop).build().unwrap();
        let next_hop = testing::serve_monitored(next_hop, theirs.clone()).await;
        let monitor = Monitor::pass_through(ours.clone(), Duration::from_secs(600));
        let chain = begin().with(monitor).end(Connect::new(next_hop.dialer.clone())).build().unwrap();

        let answer = chain.request(request("")).await.unwrap();
        let next = answer.segments()[2].id.clone();
        let mut update = Connection::clone(&theirs.get(&next).unwrap());
        let seen = || ours.get("a").map(|known| (known.state(), known.context.as_ref().map_or(0, |c| c.mtu)));
        assert_eq!(seen(), Some((State::Up, 0)));
        eventually(|| theirs.streams(), |streams| *streams == 1).await;
        update.context_mut().mtu = 1400;
        theirs.publish(&next, update);
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
