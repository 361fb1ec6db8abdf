// SPDX-License-Identifier: Apache-2.0

//! Publish what the next hop says of a connection.
//!
//! 1. An event is about our connection if its path has our id at our index, and our index or the next is its own.
//! 2. The next hop's connection is gone or `DOWN`, or the stream ends: ours is `DOWN`.
//! 3. Otherwise the path right of our segment, and the context, become the next hop's.

use std::time::Duration;

use futures::StreamExt;

use crate::{
    api::{
        Connection, PathSegment, State,
        pb::connection::{ConnectionEvent, ConnectionEventType, MonitorScopeSelector},
    },
    transport::{
        Wire,
        monitor::{Connections, watch},
    },
};

/// Our segment of a connection.
#[derive(Clone, Debug)]
pub(super) struct Own {
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

impl Own {
    pub(super) fn of(connection: &Connection) -> Option<Self> {
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
pub(super) async fn follow(own: Own, wire: Wire, lifetime: Duration, connections: Connections) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::given;

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
}
