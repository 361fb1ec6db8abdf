// SPDX-License-Identifier: Apache-2.0

//! Identifies one connection in the events of its next hop.
//!
//! 1. An event is about the connection if its path has the own id at the own index, and its index
//!    is the own one or the next.
//! 2. It is not if the next hop's id differs from that in the path of the answer. A peer that still
//!    holds an older connection of the same id publishes both, and the end of the older one, for
//!    instance when it times out after a crash, is not that of the newer.

use crate::api::{Connection, PathSegment, pb::connection::MonitorScopeSelector};

/// The own segment of an answered connection, and the id that the next hop has given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    id: String,
    name: String,
    index: usize,
    next: Option<String>,
}

impl Ours {
    /// The connection of an answer; `None` if its path lacks the own segment.
    pub(crate) fn of(answer: &Connection) -> Option<Self> {
        let own = answer.own_segment()?;
        let index = answer.index();
        let next = answer.segments().get(index + 1).map(|next| next.id.clone());
        Some(Self { id: own.id.clone(), name: own.name.clone(), index, next })
    }

    /// The own id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The own index in the path.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Selects the events of the connection.
    pub(crate) fn selector(&self) -> MonitorScopeSelector {
        let segment = PathSegment { id: self.id.clone(), name: self.name.clone(), ..PathSegment::default() };
        MonitorScopeSelector { path_segments: vec![segment], ..MonitorScopeSelector::default() }
    }

    /// Whether a connection of an event is this one.
    pub(crate) fn is(&self, connection: &Connection) -> bool {
        let id = |index: usize| connection.segments().get(index).map(|segment| &segment.id);
        let ours = id(self.index) == Some(&self.id);
        let at_next = connection.index() == self.index + 1;
        let same_next = self.next.is_none() || id(self.index + 1) == self.next.as_ref();
        ours && (connection.index() == self.index || at_next && same_next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u32, ids: &[&str]) -> Connection {
        let mut connection = *Connection::named("x");
        connection.path_mut().index = index;
        connection.path_mut().path_segments =
            ids.iter().map(|id| PathSegment { id: (*id).into(), ..PathSegment::default() }).collect();
        connection
    }

    #[test]
    fn a_connection_is_found_again_by_the_table() {
        let path = ["client", "own", "next", "last"];
        // rule, the answer's path, a connection of an event, whether it is the same
        let table = [
            ("1 at the next hop", &path[..], at(2, &path), true),
            ("1 at the own index", &path, at(1, &path), true),
            ("1 at a later hop", &path, at(3, &path), false),
            ("1 at an earlier hop", &path, at(0, &path), false),
            ("1 another id", &path, at(2, &["client", "other", "next"]), false),
            ("1 the id at another index", &path, at(2, &["own", "client", "next"]), false),
            ("1 no path", &path, at(0, &[]), false),
            ("2 an older one with the same id", &path, at(2, &["client", "own", "older"]), false),
            ("2 the next hop is not known", &path[..2], at(2, &["client", "own", "any"]), true),
        ];
        for (rule, answer, connection, same) in table {
            let ours = Ours::of(&at(1, answer)).unwrap();
            assert_eq!(ours.is(&connection), same, "{rule}");
        }
        assert_eq!(Ours::of(&at(1, &path[..1])), None);
    }
}
