// SPDX-License-Identifier: Apache-2.0

//! Three-way merge of a caller's Request with changes made by events since its last answer (NSM
//! `begin`).
//!
//! `returned` is the last answer given to the caller, `requested` is its present Request, `current`
//! is the latest state known here, which events may have changed.
//! 1. Nothing was returned yet: take `requested`.
//! 2. Otherwise start from `current`: labels, mechanism, path, payload and state are kept.
//! 3. The caller changed the endpoint name: take the requested one.
//! 4. There is no current context: take the requested one.
//! 5. The caller changed the context: take the requested addresses, MACs, DNS servers and MTU.
//! 6. Of the extra context, take the entries the caller changed or removed; entries it did not know
//!    are not added.

use crate::api::{Connection, State, pb::connectioncontext::ConnectionContext};

/// Rules 1 to 6.
pub(crate) fn merge(
    returned: Option<&Connection>,
    requested: Box<Connection>,
    current: Option<&Connection>,
) -> Box<Connection> {
    let (Some(returned), Some(current)) = (returned, current) else {
        return requested;
    };
    let mut merged = Box::new(current.clone());
    if requested.network_service_endpoint_name != returned.network_service_endpoint_name {
        merged.network_service_endpoint_name = requested.network_service_endpoint_name;
    }
    match &mut merged.context {
        None => merged.context = requested.context,
        Some(context) if requested.context != returned.context => {
            let was = returned.context.clone().unwrap_or_default();
            changed(context, was, requested.context.unwrap_or_default());
        }
        Some(_) => {}
    }
    merged
}

/// Rules 5 and 6.
fn changed(current: &mut ConnectionContext, was: ConnectionContext, requested: ConnectionContext) {
    current.ip_context = requested.ip_context;
    current.ethernet_context = requested.ethernet_context;
    current.dns_context = requested.dns_context;
    current.mtu = requested.mtu;
    for (key, old) in was.extra_context {
        match requested.extra_context.get(&key) {
            Some(new) if *new == old => {}
            Some(new) => drop(current.extra_context.insert(key, new.clone())),
            None => drop(current.extra_context.remove(&key)),
        }
    }
}

/// Turns a known connection into a reselect Request on the same path.
pub(crate) fn reselect(connection: &mut Connection, keep_endpoint: bool) {
    connection.mechanism = None;
    connection.set_state(State::ReselectRequested);
    if !keep_endpoint {
        connection.network_service_endpoint_name.clear();
    }
}

/// Requests a connection again while its Close is still being retried: uses the requested content
/// on the path being closed (otherwise the next hop would assign a new id and leak the old one) and
/// requests a reselect, by which the hops close theirs first.
pub(crate) fn reopen(requested: &mut Connection, closing: &Connection) {
    requested.path = closing.path.clone();
    requested.set_state(State::ReselectRequested);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(endpoint: &str, mtu: u32, extra: &[(&str, &str)]) -> Box<Connection> {
        let mut connection = Connection::named("a");
        connection.network_service_endpoint_name = endpoint.into();
        let words = extra.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        connection.context_mut().extra_context = words.collect();
        connection.context_mut().mtu = mtu;
        connection
    }

    #[test]
    fn merges_by_the_table() {
        let c = connection;
        // rule, returned, requested, current, merged
        #[rustfmt::skip]
        let table = [
            ("2 nothing changed: current", c("e", 1, &[]), c("e", 1, &[]), c("e", 2, &[("k", "v")]), c("e", 2, &[("k", "v")])),
            ("3 endpoint changed by caller", c("e", 1, &[]), c("f", 1, &[]), c("g", 2, &[]), c("f", 2, &[])),
            ("3 endpoint changed by event", c("e", 1, &[]), c("e", 1, &[]), c("g", 2, &[]), c("g", 2, &[])),
            ("5 mtu changed by caller", c("e", 1, &[]), c("e", 9, &[]), c("e", 2, &[]), c("e", 9, &[])),
            ("6 word changed", c("e", 1, &[("k", "v")]), c("e", 1, &[("k", "w")]), c("e", 1, &[("k", "v")]), c("e", 1, &[("k", "w")])),
            ("6 word removed", c("e", 1, &[("k", "v")]), c("e", 1, &[]), c("e", 1, &[("k", "v"), ("x", "y")]), c("e", 1, &[("x", "y")])),
            ("6 new word is not added", c("e", 1, &[]), c("e", 1, &[("k", "v")]), c("e", 1, &[]), c("e", 1, &[])),
        ];
        for (rule, returned, requested, current, merged) in table {
            assert_eq!(merge(Some(&returned), requested, Some(&current)), merged, "{rule}");
        }
    }

    #[test]
    fn without_an_earlier_answer_the_request_is_unchanged() {
        let requested = connection("e", 1, &[]);
        let other = connection("f", 2, &[]);
        assert_eq!(merge(None, requested.clone(), Some(&other)), requested);
        assert_eq!(merge(Some(&other), requested.clone(), None), requested);
    }

    #[test]
    fn labels_mechanism_path_payload_and_state_stay() {
        let returned = connection("e", 1, &[]);
        let current = connection("e", 1, &[]);
        let mut requested = returned.clone();
        requested.labels.insert("k".into(), "v".into());
        requested.mechanism = Some(Default::default());
        requested.path_mut().index = 3;
        requested.payload = "IP".into();
        requested.set_state(State::Down);
        assert_eq!(merge(Some(&returned), requested, Some(&current)), current);
    }

    #[test]
    fn without_a_current_context_the_requested_one_counts() {
        let returned = connection("e", 1, &[]);
        let requested = connection("e", 1, &[]);
        let current = Connection::named("a");
        let merged = merge(Some(&returned), requested.clone(), Some(&current));
        assert_eq!(merged.context, requested.context);
    }
}
