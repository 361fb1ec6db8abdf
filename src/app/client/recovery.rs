// SPDX-License-Identifier: Apache-2.0

//! Finds the connection of an earlier process of this pod, so that it is continued and no second
//! one is made.
//!
//! 1. nsmgr has two seconds to answer, and is queried three times if it does not.
//! 2. A connection counts if nsmgr publishes it: its path's index is 1, and segment 0 has our
//!    connection's id.
//! 3. Its mechanism must be KERNEL or NOOP, or none, as in the middle of a reselect.
//! 4. Of several, for instance when an earlier process had left one that has not timed out yet, the
//!    newest counts: the one whose token of this client expires last.
//! 5. It is continued from our place in the path: index 0 and our id.

use std::time::Duration;

use crate::{
    api::{
        Connection, State,
        pb::connection::{ConnectionEvent, MonitorScopeSelector, PathSegment},
    },
    chain::{bounds, causes},
    server::monitor::{SnapshotError, snapshot},
    transport::{DialError, Dialer},
};

/// Time for nsmgr to list its connections.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of queries.
const TIMES: usize = 3;

/// The connection with this id that an earlier process has left, ready to be continued. `None` if
/// there is none or nsmgr does not answer.
///
/// # Errors
/// nsmgr cannot be reached. The caller should try again.
pub(crate) async fn find(nsmgr: &Dialer, id: &str) -> Result<Option<Box<Connection>>, DialError> {
    let segment = PathSegment { id: id.to_owned(), ..PathSegment::default() };
    let selector = MonitorScopeSelector { path_segments: vec![segment], ..MonitorScopeSelector::default() };
    for _ in 0..TIMES {
        match snapshot(nsmgr, selector.clone(), SNAPSHOT_TIMEOUT).await {
            Ok(event) => return Ok(continued(event, id)),
            Err(SnapshotError::Dial(error)) => return Err(error),
            Err(error) => tracing::info!(id, error = causes(&error), "nsmgr shows no connections"),
        }
    }
    Ok(None)
}

/// Rules 2 to 5.
fn continued(event: ConnectionEvent, id: &str) -> Option<Box<Connection>> {
    let candidates = event.connections.into_values().filter(|connection| {
        is_ours(connection, id) && is_handled(connection) && bounds::check(connection, &[]).is_ok()
    });
    let mut found = candidates
        .max_by_key(|connection| connection.segments().first().and_then(PathSegment::expires_at))?;
    id.clone_into(&mut found.id);
    found.path_mut().index = 0;
    Some(Box::new(found))
}

fn is_ours(connection: &Connection, id: &str) -> bool {
    connection.index() == 1 && connection.segments().len() > 1 && connection.client_id() == id
}

fn is_handled(connection: &Connection) -> bool {
    connection.mechanism.as_ref().is_none_or(|mechanism| mechanism.kind().is_some())
}

/// The Request that makes the link of a recovered connection again, at this endpoint; an empty name
/// leaves the choice to nsmgr.
pub(crate) fn reselect(mut connection: Box<Connection>, endpoint: &str) -> Box<Connection> {
    connection.mechanism = None;
    connection.set_state(State::ReselectRequested);
    endpoint.clone_into(&mut connection.network_service_endpoint_name);
    connection
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::api::Mechanism;

    fn at(index: u32, ids: &[&str], mechanism: Option<&str>) -> Connection {
        let mut connection = *Connection::named(ids.get(index as usize).copied().unwrap_or_default());
        connection.path_mut().index = index;
        connection.path_mut().path_segments =
            ids.iter().map(|id| PathSegment { id: (*id).to_owned(), ..PathSegment::default() }).collect();
        connection.mechanism =
            mechanism.map(|kind| Mechanism { r#type: kind.into(), ..Mechanism::default() });
        connection
    }

    fn event(connections: Vec<Connection>) -> ConnectionEvent {
        let keyed = connections.into_iter().enumerate().map(|(n, connection)| (n.to_string(), connection));
        ConnectionEvent { connections: keyed.collect::<HashMap<_, _>>(), ..ConnectionEvent::default() }
    }

    #[test]
    fn b11_only_our_connection_as_the_manager_has_it_is_continued() {
        let table = [
            ("as published", at(1, &["a", "m", "f", "e"], Some("KERNEL")), true),
            ("l25 without a mechanism", at(1, &["a", "m"], None), true),
            ("another mechanism", at(1, &["a", "m"], Some("MEMIF")), false),
            ("another connection", at(1, &["b", "m"], Some("KERNEL")), false),
            ("published by another hop", at(2, &["a", "m", "f"], Some("KERNEL")), false),
            ("no path", *Connection::named("a"), false),
            ("index beyond the path", at(1, &["a"], Some("KERNEL")), false),
            ("a path without end", at(1, &["a"; 1000], Some("KERNEL")), false),
        ];
        for (rule, connection, found) in table {
            let segments = connection.segments().len();
            let got = continued(event(vec![connection]), "a");
            assert_eq!(got.is_some(), found, "{rule}");
            if let Some(got) = got {
                assert_eq!(
                    (got.id.as_str(), got.index(), got.segments().len()),
                    ("a", 0, segments),
                    "{rule}"
                );
            }
        }
        let both = event(vec![at(1, &["b", "m"], Some("KERNEL")), at(1, &["a", "m"], Some("KERNEL"))]);
        assert!(continued(both, "a").is_some());
        assert_eq!(continued(event(vec![]), "a"), None);
    }

    #[test]
    fn of_several_connections_the_one_that_expires_last_counts() {
        let expiring = |next: &str, seconds| {
            let mut connection = at(1, &["a", next, "f", "e"], Some("KERNEL"));
            let expires = prost_types::Timestamp { seconds, nanos: 0 };
            connection.path_mut().path_segments[0].expires = Some(expires);
            connection
        };
        let unsaid = at(1, &["a", "unsaid"], Some("KERNEL"));
        for _ in 0..20 {
            // a map's order differs from one map to the next
            let all =
                vec![expiring("older", 100), expiring("newest", 300), expiring("old", 200), unsaid.clone()];
            let found = continued(event(all), "a").unwrap();
            assert_eq!(found.segments()[1].id, "newest");
        }
    }

    #[test]
    fn b11_a_reselect_keeps_endpoint_and_path() {
        let mut old = at(0, &["a", "m", "f", "e"], Some("KERNEL"));
        old.ip_context_mut().dst_ip_addrs = vec!["172.16.1.2/24".into(), "fd00::2/64".into()];
        let new = reselect(Box::new(old.clone()), "lb-1");
        assert_eq!(new.mechanism, None);
        assert_eq!(new.state(), State::ReselectRequested);
        assert_eq!(new.network_service_endpoint_name, "lb-1");
        assert_eq!((&new.path, &new.context), (&old.path, &old.context));
    }
}
