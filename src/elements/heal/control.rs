// SPDX-License-Identifier: Apache-2.0

//! Watches whether the peers still have a connection.
//!
//! It is lost if the next hop has deleted it or reports it `DOWN`, and if the stream ends, with or
//! without an error, or is not opened in time.

use futures::StreamExt;
use tonic::Status;

use crate::{
    api::{
        State,
        pb::connection::{ConnectionEvent, ConnectionEventType},
    },
    server::monitor::{Events, Ours},
};

/// The loss of a connection that an event reports, if it does.
fn loss(ours: &Ours, event: &ConnectionEvent) -> Option<&'static str> {
    let mut about = event.connections.values().filter(|connection| ours.is(connection)).peekable();
    about.peek()?;
    if event.r#type() == ConnectionEventType::Delete {
        return Some("the next hop has deleted the connection");
    }
    let down = about.any(|connection| connection.state() == State::Down);
    down.then_some("the next hop reports the connection as down")
}

/// The way in which a connection was lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The next hop reports it.
    Reported(&'static str),
    /// The stream of the next hop has ended.
    Unheard(String),
}

/// Waits until the connection is lost.
pub(super) async fn lost(ours: &Ours, events: &mut Events) -> Lost {
    loop {
        let event = events.next().await;
        match event.map(|event: Result<_, Status>| event.map(|event| loss(ours, &event))) {
            Some(Ok(None)) => {}
            Some(Ok(Some(how))) => return Lost::Reported(how),
            Some(Err(status)) => {
                return Lost::Unheard(format!("the monitor stream broke: {}", status.message()));
            }
            None => return Lost::Unheard("the monitor stream has ended".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Connection, testing};

    fn connection(index: u32, state: State) -> Connection {
        let mut connection = *Connection::named("x");
        testing::path(&mut connection, index, &[None; 4]);
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
        let ours = Ours::of(&connection(0, State::Up)).unwrap();
        use ConnectionEventType::{Delete, InitialStateTransfer as First, Update};
        let up = connection(1, State::Up);
        let down = connection(1, State::Down);
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
            ("down", event(Update, std::slice::from_ref(&down)), true),
            ("down at once", event(First, &[down]), true),
            ("deleted", event(Delete, std::slice::from_ref(&up)), true),
            ("deleted, at our own index", event(Delete, &[connection(0, State::Up)]), true),
            ("an older connection is deleted", event(Delete, &[stale(State::Up)]), false),
            ("an older connection is down", event(Update, &[stale(State::Down)]), false),
            ("another connection", event(Update, std::slice::from_ref(&other)), false),
            ("a remote nsmgr's view", event(Delete, &[connection(3, State::Down)]), false),
            ("ours among others", event(Update, &[other, connection(1, State::Down), up]), true),
        ];
        for (rule, event, lost) in table {
            assert_eq!(loss(&ours, &event).is_some(), lost, "{rule}");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_a_loss_with_and_without_an_error() {
        let ours = Ours::of(&connection(0, State::Up)).unwrap();
        let up = || Ok(event(ConnectionEventType::Update, &[connection(1, State::Up)]));
        let mut ends: Events = futures::stream::iter([up(), up()]).boxed();
        assert_eq!(lost(&ours, &mut ends).await, Lost::Unheard("the monitor stream has ended".into()));
        let broken = Err(Status::cancelled("operation was canceled"));
        let mut breaks: Events = futures::stream::iter([up(), broken]).boxed();
        let how = "the monitor stream broke: operation was canceled";
        assert_eq!(lost(&ours, &mut breaks).await, Lost::Unheard(how.into()));
    }
}
