// SPDX-License-Identifier: Apache-2.0

//! Decides which connections a monitor stream is about.
//!
//! 1. The selector names no network service, or names the connection's.
//! 2. And it has no path segments, or they match a contiguous run of the connection's segments.
//! 3. Two segments match when name, id and token are equal; an empty text in the selector matches
//!    any.

use crate::api::{Connection, PathSegment, pb::connection::MonitorScopeSelector};

/// Whether the selector selects the connection. An empty selector selects every connection.
pub(crate) fn matches(selector: &MonitorScopeSelector, connection: &Connection) -> bool {
    let services = &selector.network_services;
    let wanted = &selector.path_segments;
    let service = services.is_empty() || services.contains(&connection.network_service);
    service && (wanted.is_empty() || run_of(connection.segments(), wanted))
}

fn run_of(segments: &[PathSegment], wanted: &[PathSegment]) -> bool {
    segments.windows(wanted.len()).any(|run| wanted.iter().zip(run).all(|(wanted, has)| same(wanted, has)))
}

fn same(wanted: &PathSegment, has: &PathSegment) -> bool {
    let texts = [(&wanted.name, &has.name), (&wanted.id, &has.id), (&wanted.token, &has.token)];
    texts.into_iter().all(|(wanted, has)| wanted.is_empty() || wanted == has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Path;

    fn segment(name: &str, id: &str, token: &str) -> PathSegment {
        PathSegment { name: name.into(), id: id.into(), token: token.into(), ..PathSegment::default() }
    }

    fn connection() -> Connection {
        let path_segments =
            vec![segment("nsc", "1", "t1"), segment("nsmgr", "2", "t2"), segment("fwd", "3", "t3")];
        Connection {
            id: "2".into(),
            network_service: "lb".into(),
            path: Some(Path { index: 1, path_segments }),
            ..Connection::default()
        }
    }

    #[test]
    fn selects_by_the_table() {
        let nsc = segment("nsc", "", "");
        let mgr = segment("", "2", "");
        let fwd = segment("", "", "t3");
        let any = segment("", "", "");
        #[rustfmt::skip]
        let table: &[(&str, &[PathSegment], &[&str], bool)] = &[
            ("an empty selector takes all", &[], &[], true),
            ("by name", std::slice::from_ref(&nsc), &[], true),
            ("by id, in the middle", std::slice::from_ref(&mgr), &[], true),
            ("by token, at the end", std::slice::from_ref(&fwd), &[], true),
            ("a run", &[nsc.clone(), mgr.clone(), fwd.clone()], &[], true),
            ("a run from the middle", &[mgr.clone(), fwd.clone()], &[], true),
            ("not contiguous", &[nsc.clone(), fwd.clone()], &[], false),
            ("not in this order", &[mgr.clone(), nsc.clone()], &[], false),
            ("wildcards count segments", &[any.clone(), any.clone(), any.clone()], &[], true),
            ("longer than the path", &[any.clone(), any.clone(), any.clone(), any.clone()], &[], false),
            ("one text differs", &[segment("nsc", "2", "")], &[], false),
            ("a wrong token", &[segment("nsc", "1", "t2")], &[], false),
            ("its service", &[], &["x", "lb"], true),
            ("another service", &[], &["x"], false),
            ("path matches, service does not", std::slice::from_ref(&nsc), &["x"], false),
            ("service matches, path does not", &[segment("x", "", "")], &["lb"], false),
        ];
        for (rule, segments, services, expected) in table {
            let selector = MonitorScopeSelector {
                path_segments: segments.to_vec(),
                network_services: services.iter().map(ToString::to_string).collect(),
            };
            assert_eq!(matches(&selector, &connection()), *expected, "{rule}");
        }
    }

    #[test]
    fn a_connection_without_a_path_matches_no_segment() {
        let selector = |path_segments| MonitorScopeSelector { path_segments, ..Default::default() };
        let bare = Connection::default();
        assert!(matches(&selector(vec![]), &bare));
        assert!(!matches(&selector(vec![segment("", "", "")]), &bare));
    }
}
