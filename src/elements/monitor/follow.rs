// SPDX-License-Identifier: Apache-2.0

//! Publishes the next hop's events about a connection.
//!
//! 1. The next hop's connection is gone or `DOWN`, or the stream ends: ours is `DOWN`.
//! 2. Otherwise the path right of our segment, and the context, become the next hop's.

use std::time::Duration;

use futures::StreamExt;

use crate::{
    api::{
        Connection, State,
        pb::connection::{ConnectionEvent, ConnectionEventType},
    },
    server::monitor::{Connections, Ours, watch},
    transport::Wire,
};

/// The meaning of an event for a connection.
#[derive(Debug, PartialEq)]
enum Effect<'a> {
    /// Rule 1.
    Lost,
    /// Rule 2.
    Changed(&'a Connection),
    /// It is about other connections.
    Nothing,
}

/// Rules 1 and 2.
fn effect<'a>(ours: &Ours, event: &'a ConnectionEvent) -> Effect<'a> {
    match event.connections.values().find(|connection| ours.is(connection)) {
        None => Effect::Nothing,
        Some(_) if event.r#type() == ConnectionEventType::Delete => Effect::Lost,
        Some(connection) if connection.state() == State::Down => Effect::Lost,
        Some(connection) => Effect::Changed(connection),
    }
}

/// Rule 2.
fn take_over(ours: &Ours, known: &mut Connection, update: &Connection) {
    let right = update.segments().iter().skip(ours.index() + 1).cloned();
    let segments = &mut known.path_mut().path_segments;
    segments.truncate(ours.index() + 1);
    segments.extend(right);
    known.context.clone_from(&update.context);
    known.state = update.state;
}

/// Publishes the next hop's events until its stream ends.
pub(super) async fn follow(ours: Ours, wire: Wire, lifetime: Duration, connections: Connections) {
    let mut events = watch(&wire, ours.selector(), lifetime);
    while let Some(Ok(event)) = events.next().await {
        match effect(&ours, &event) {
            Effect::Nothing => {}
            Effect::Lost => break,
            Effect::Changed(update) => {
                let Some(known) = connections.get(ours.id()) else { return };
                let mut connection = Connection::clone(&known);
                take_over(&ours, &mut connection, update);
                if connection != *known {
                    connections.publish(ours.id(), connection);
                }
            }
        }
    }
    connections.down(ours.id());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn ours() -> Ours {
        let mut answer = *Connection::named("own");
        testing::path(&mut answer, 1, &[None; 3]);
        answer.path_mut().path_segments[1].id = "own".into();
        answer.path_mut().path_segments[2].id = "next".into();
        Ours::of(&answer).unwrap()
    }

    #[test]
    fn an_event_of_the_next_hop_is_understood_by_the_table() {
        let from = |own: &str, next: &str, kind: ConnectionEventType, state: State| {
            let mut connection = *Connection::named(next);
            testing::path(&mut connection, 2, &[None; 4]);
            connection.path_mut().path_segments[1].id = own.into();
            connection.path_mut().path_segments[2].id = next.into();
            connection.set_state(state);
            ConnectionEvent { r#type: kind.into(), connections: [(next.to_owned(), connection)].into() }
        };
        use ConnectionEventType::{Delete, InitialStateTransfer as First, Update};
        // rule, event, whether it is lost; none: about others
        let table = [
            ("2 first event", from("own", "next", First, State::Up), Some(false)),
            ("2 update", from("own", "next", Update, State::Up), Some(false)),
            ("1 down", from("own", "next", Update, State::Down), Some(true)),
            ("1 down at once", from("own", "next", First, State::Down), Some(true)),
            ("1 deleted", from("own", "next", Delete, State::Up), Some(true)),
            ("another connection", from("other", "next", Delete, State::Up), None),
            ("an older one with our id", from("own", "older", Delete, State::Up), None),
            ("no connection", ConnectionEvent::default(), None),
        ];
        for (rule, event, lost) in table {
            let effect = match effect(&ours(), &event) {
                Effect::Nothing => None,
                effect => Some(effect == Effect::Lost),
            };
            assert_eq!(effect, lost, "{rule}");
        }
    }

    #[test]
    fn path_and_context_follow_the_next_hop() {
        let mut known = *Connection::named("own");
        let mut update = *Connection::named("next");
        testing::path(&mut known, 1, &[Some(1), Some(2), Some(3), Some(4)]);
        testing::path(&mut update, 2, &[None, None, None]);
        update.context_mut().mtu = 1400;
        let own = known.segments()[..2].to_vec();
        take_over(&ours(), &mut known, &update);
        assert_eq!((&known.segments()[..2], &known.segments()[2..]), (&*own, &update.segments()[2..]));
        assert_eq!((known.id.as_str(), known.index(), known.context.unwrap().mtu), ("own", 1, 1400));
    }
}
