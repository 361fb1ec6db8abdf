// SPDX-License-Identifier: Apache-2.0

//! Refuses calls that no honest peer makes, before they take memory or time in a chain.

mod context;

use std::collections::HashMap;

use crate::{
    api::{Connection, Mechanism},
    chain::{Reason, Result},
};

/// Maximum number of path segments of a connection.
pub(crate) const SEGMENTS: usize = 64;
/// Maximum number of mechanism preferences of a Request.
pub(crate) const PREFERENCES: usize = 64;
/// Maximum length of an id or a name in bytes.
pub(crate) const NAME: usize = 1 << 10;
/// Maximum length of a token in bytes.
pub(crate) const TOKEN: usize = 16 << 10;
/// Maximum size in bytes of all free maps of a call together: labels, extra context, metrics,
/// mechanism parameters.
pub(crate) const MAPS: usize = 64 << 10;
/// Maximum size of a message in bytes, as in most gRPC peers.
pub(crate) const MESSAGE: usize = 4 << 20;

/// Checks a connection, and the preferences that came with it.
///
/// # Errors
/// `Exhausted`, naming the thing, its size and the limit.
pub(crate) fn check(connection: &Connection, preferences: &[Mechanism]) -> Result<()> {
    let segments = connection.segments();
    within("path segments", segments.len(), SEGMENTS)?;
    within("mechanism preferences", preferences.len(), PREFERENCES)?;
    let names = [
        ("bytes of connection id", &connection.id),
        ("bytes of network service name", &connection.network_service),
        ("bytes of endpoint name", &connection.network_service_endpoint_name),
        ("bytes of payload", &connection.payload),
    ];
    let of_segments = segments.iter().flat_map(|segment| {
        [("bytes of path segment name", &segment.name), ("bytes of path segment id", &segment.id)]
    });
    for (thing, name) in names.into_iter().chain(of_segments) {
        within(thing, name.len(), NAME)?;
    }
    for segment in segments {
        within("bytes of path segment token", segment.token.len(), TOKEN)?;
    }
    if let Some(context) = &connection.context {
        context::check(context)?;
    }
    within("bytes of labels, extra context, metrics and parameters", maps(connection, preferences), MAPS)
}

fn within(thing: &str, found: usize, limit: usize) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    Err(Reason::Exhausted(format!("the call has {found} {thing} (at most {limit})")).into())
}

fn maps(connection: &Connection, preferences: &[Mechanism]) -> usize {
    let bytes =
        |map: &HashMap<String, String>| map.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let metrics: usize = connection.segments().iter().map(|segment| bytes(&segment.metrics)).sum();
    let extra = connection.context.as_ref().map_or(0, |context| bytes(&context.extra_context));
    let mechanisms: usize = connection
        .mechanism
        .iter()
        .chain(preferences)
        .map(|m| m.cls.len() + m.r#type.len() + bytes(&m.parameters))
        .sum();
    bytes(&connection.labels) + extra + metrics + mechanisms
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::api::{PathSegment, pb::connectioncontext::ConnectionContext};

    fn map(bytes: usize) -> HashMap<String, String> {
        HashMap::from([("key".into(), "v".repeat(bytes - 3))])
    }

    fn path(count: usize, segment: PathSegment) -> Connection {
        let mut connection = Connection::default();
        connection.path_mut().path_segments = vec![segment; count];
        connection
    }

    #[test]
    fn each_limit_is_accepted_and_one_more_is_refused() {
        let long = |n: usize| "n".repeat(n);
        type Make = fn(&dyn Fn(usize) -> String, usize) -> (Connection, Vec<Mechanism>);
        #[rustfmt::skip]
        let table: &[(Make, usize, &str)] = &[
            (|_, n| (path(n, PathSegment::default()), vec![]), 64, "path segments"),
            (|_, n| (Connection::default(), vec![Mechanism::default(); n]), 64, "mechanism preferences"),
            (|s, n| (Connection { id: s(n), ..Default::default() }, vec![]), 1024, "bytes of connection id"),
            (|s, n| (Connection { network_service: s(n), ..Default::default() }, vec![]), 1024, "bytes of network service name"),
            (|s, n| (Connection { network_service_endpoint_name: s(n), ..Default::default() }, vec![]), 1024, "bytes of endpoint name"),
            (|s, n| (Connection { payload: s(n), ..Default::default() }, vec![]), 1024, "bytes of payload"),
            (|s, n| (path(2, PathSegment { name: s(n), ..Default::default() }), vec![]), 1024, "bytes of path segment name"),
            (|s, n| (path(2, PathSegment { id: s(n), ..Default::default() }), vec![]), 1024, "bytes of path segment id"),
            (|s, n| (path(2, PathSegment { token: s(n), ..Default::default() }), vec![]), 16384, "bytes of path segment token"),
            (|_, n| (Connection { labels: map(n), ..Default::default() }, vec![]), 65536, "bytes of labels"),
            (|_, n| (Connection { context: Some(ConnectionContext { extra_context: map(n), ..Default::default() }), ..Default::default() }, vec![]), 65536, "bytes of labels"),
            (|_, n| (path(1, PathSegment { metrics: map(n), ..Default::default() }), vec![]), 65536, "bytes of labels"),
            (|_, n| (Connection { mechanism: Some(Mechanism { parameters: map(n), ..Default::default() }), ..Default::default() }, vec![]), 65536, "bytes of labels"),
            (|_, n| (Connection::default(), vec![Mechanism { parameters: map(n), ..Default::default() }]), 65536, "bytes of labels"),
        ];
        for (make, limit, thing) in table {
            let (connection, preferences) = make(&long, *limit);
            assert!(check(&connection, &preferences).is_ok(), "{thing}: the limit itself");
            let (connection, preferences) = make(&long, limit + 1);
            let error = check(&connection, &preferences).unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
            let text = error.to_string();
            let expected = [format!("has {} {thing}", limit + 1), format!("(at most {limit})")];
            assert!(expected.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn maps_count_together() {
        let connection = Connection {
            labels: map(40_000),
            context: Some(ConnectionContext { extra_context: map(40_000), ..Default::default() }),
            ..Default::default()
        };
        assert!(check(&connection, &[]).unwrap_err().to_string().contains("80000"));
    }
}
