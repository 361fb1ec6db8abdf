// SPDX-License-Identifier: Apache-2.0
//! Watch the connection at the next hop, and tell those before when it breaks (NSM `monitor` of a hop in the middle).
//!
//! If the next hop deletes the connection, says that it is down, or goes away, it is published as down: the client heals.
//!
//! # State
//! The task that watches, replaced by each Request.

use std::time::Duration;

use futures::StreamExt;

use super::relay::Hop;
use crate::{
    api::{
        Connection, PathSegment, State,
        pb::connection::{ConnectionEvent, ConnectionEventType, MonitorScopeSelector},
    },
    chain::{Close, Element, Next, Order, Request, Result, Task},
    transport::monitor::{Connections, watch},
};

/// Element that follows the next hop.
#[derive(Clone)]
pub struct Follow {
    connections: Connections,
    lifetime: Duration,
}

struct Following(#[expect(dead_code, reason = "aborts the task when dropped")] Task);

impl Follow {
    /// Publish into `connections`; tokens of the streams live for `lifetime`.
    pub fn new(connections: Connections, lifetime: Duration) -> Self {
        Self { connections, lifetime }
    }
}

/// Whether an event says that the connection of our segment is broken.
fn breaks(event: &ConnectionEvent) -> bool {
    let deleted = event.r#type() == ConnectionEventType::Delete && !event.connections.is_empty();
    deleted || event.connections.values().any(|connection| connection.state() == State::Down)
}

impl Element for Follow {
    const NAME: &'static str = "follow";
    const ORDER: Order = Order { after: &["monitor"], before: &["relay"] };

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let (scope, events) = (request.context.scope.clone(), request.context.events.clone());
        let own = request.connection.own_segment().map(|own| (own.name.clone(), own.id.clone()));
        let answer = next.request(request).await?;
        if let (Some(hop), Some((name, id))) = (scope.get::<Hop>(), own) {
            let segment = PathSegment { name, id: id.clone(), ..PathSegment::default() };
            let selector = MonitorScopeSelector { path_segments: vec![segment], network_services: vec![] };
            let mut stream = watch(&hop.0, selector, self.lifetime);
            let connections = self.connections.clone();
            scope.insert(Following(events.spawn(|_events| async move {
                while let Some(Ok(event)) = stream.next().await {
                    if breaks(&event) {
                        break;
                    }
                }
                connections.down(&id);
            })));
        }
        Ok(answer)
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        drop(close.context.scope.take::<Following>());
        next.close(close).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::laws;

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| Follow::new(Connections::default(), Duration::from_secs(60))).await.unwrap();
    }

    #[test]
    fn a_connection_breaks_by_the_table() {
        let event = |kind: ConnectionEventType, state: Option<State>| {
            let mut event = ConnectionEvent { r#type: kind.into(), ..Default::default() };
            if let Some(state) = state {
                let connection = Connection { state: state.into(), ..Default::default() };
                event.connections.insert("a".into(), connection);
            }
            event
        };
        use ConnectionEventType::{Delete, InitialStateTransfer, Update};
        let table = [
            (event(InitialStateTransfer, None), false),
            (event(InitialStateTransfer, Some(State::Up)), false),
            (event(InitialStateTransfer, Some(State::Down)), true),
            (event(Update, Some(State::Up)), false),
            (event(Update, Some(State::ReselectRequested)), false),
            (event(Update, Some(State::Down)), true),
            (event(Delete, Some(State::Up)), true),
            (event(Delete, None), false),
        ];
        for (event, expected) in table {
            assert_eq!(breaks(&event), expected, "{event:?}");
        }
    }
}
