// SPDX-License-Identifier: Apache-2.0

//! Watch whether the peers still know a connection.
//!
//! 1. An event is about our connection if its path has our id at our index, and our index or the next is its own.
//! 2. It is not if the next hop's id is another than in our path. nsmgr says so of an older connection that had our id, for instance
//!    when that one times out after a crash; ours lives.
//! 3. The connection is lost if it is deleted or `DOWN`, and if the stream ends, with or without an error, or is not opened in time.

use futures::StreamExt;
use tonic::Status;

use crate::{
    api::{
        Connection, PathSegment, State,
        pb::connection::{ConnectionEvent, ConnectionEventType, MonitorScopeSelector},
    },
    transport::monitor::Events,
};

/// Our connection, as the peers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    id: String,
    name: String,
    index: usize,
    next: Option<String>,
}

impl Known {
    /// The connection of an answer; none if it has no path.
    pub(super) fn of(answer: &Connection) -> Option<Self> {
        let (own, index) = (answer.own_segment()?, answer.index());
        let next = answer.segments().get(index + 1).map(|next| next.id.clone());
        Some(Self { id: own.id.clone(), name: own.name.clone(), index, next })
    }

    pub(super) fn selector(&self) -> MonitorScopeSelector {
        let segment = PathSegment { id: self.id.clone(), name: self.name.clone(), ..PathSegment::default() };
        MonitorScopeSelector { path_segments: vec![segment], ..MonitorScopeSelector::default() }
    }

    /// Rules 1 and 2.
    fn is(&self, connection: &Connection) -> bool {
        let id = |index: usize| connection.segments().get(index).map(|segment| &segment.id);
        let ours = id(self.index) == Some(&self.id);
        let at_next = connection.index() == self.index + 1;
        let same_next = self.next.is_none() || id(self.index + 1) == self.next.as_ref();
        ours && (connection.index() == self.index || at_next && same_next)
    }

    /// Rule 3, for an event.
    fn loss(&self, event: &ConnectionEvent) -> Option<&'static str> {
        let mut ours = event.connections.values().filter(|connection| self.is(connection)).peekable();
        ours.peek()?;
        if event.r#type() == ConnectionEventType::Delete {
            return Some("the next hop has deleted the connection");
        }
        let down = ours.any(|connection| connection.state() == State::Down);
        down.then_some("the next hop says that the connection is down")
    }

    /// Wait until the connection is lost; says how.
    pub(super) async fn lost(&self, events: &mut Events) -> String {
        loop {
            let event = events.next().await;
            match event.map(|event: Result<_, Status>| event.map(|event| self.loss(&event))) {
                Some(Ok(None)) => {}
                Some(Ok(Some(how))) => return how.to_owned(),
                Some(Err(status)) => return format!("the monitor stream broke: {}", status.message()),
                None => return "the monitor stream has ended".to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::given;

    fn connection(index: u32, state: State) -> Connection {
        let mut connection = *Connection::named("x");
        given::path(&mut connection, index, &[None; 4]);
        for (at, id) in ["own", "nsmgr", "forwarder", "endpoint"].iter().enumerate() {
            connection.path_mut().path_segments[at].id = (*id).into();
        }
        connection.set_state(state);
        connection
    }

    fn event(kind: ConnectionEventType, connections: &[Connection]) -> ConnectionEvent {
        let all = connections.iter().enumerate().map(|(at, connection)| (at.to_string(), connection.clone()));
        ConnectionEvent { r#type: kind.into(), connections: all.collect() }
    }

    #[test]
    fn an_event_means_loss_by_the_table() {
        let known = Known::of(&connection(0, State::Up)).unwrap();
        use ConnectionEventType::{Delete, InitialStateTransfer as First, Update};
        let (up, down) = (connection(1, State::Up), connection(1, State::Down));
        let stale = |state| {
            let mut stale = connection(1, state);
            stale.path_mut().path_segments[1].id = "the nsmgr's id of an older connection".into();
            stale
        };
        let mut other = connection(1, State::Down);
        other.path_mut().path_segments[0].id = "other".into();
        // rule, event, whether it is lost
        let table = [
            ("first", event(First, std::slice::from_ref(&up)), false),
            ("first, empty", event(First, &[]), false),
            ("update", event(Update, std::slice::from_ref(&up)), false),
            ("refresh requested", event(Update, &[connection(1, State::RefreshRequested)]), false),
            ("3 down", event(Update, std::slice::from_ref(&down)), true),
            ("3 down at once", event(First, &[down]), true),
            ("3 deleted", event(Delete, std::slice::from_ref(&up)), true),
            ("3 deleted, at our own index", event(Delete, &[connection(0, State::Up)]), true),
            ("2 an older connection is deleted", event(Delete, &[stale(State::Up)]), false),
            ("2 an older connection is down", event(Update, &[stale(State::Down)]), false),
            ("1 another connection", event(Update, std::slice::from_ref(&other)), false),
            ("1 a remote nsmgr's view", event(Delete, &[connection(3, State::Down)]), false),
            ("1 ours among others", event(Update, &[other, connection(1, State::Down), up]), true),
        ];
        for (rule, event, lost) in table {
            assert_eq!(known.loss(&event).is_some(), lost, "{rule}");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_a_loss_with_and_without_an_error() {
        let known = Known::of(&connection(0, State::Up)).unwrap();
        let up = || Ok(event(ConnectionEventType::Update, &[connection(1, State::Up)]));
        let mut ends: Events = futures::stream::iter([up(), up()]).boxed();
        assert_eq!(known.lost(&mut ends).await, "the monitor stream has ended");
        let broken = Err(Status::cancelled("operation was canceled"));
        let mut breaks: Events = futures::stream::iter([up(), broken]).boxed();
        assert_eq!(known.lost(&mut breaks).await, "the monitor stream broke: operation was canceled");
    }
}
