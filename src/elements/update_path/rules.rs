// SPDX-License-Identifier: Apache-2.0

//! Finds or adds the path segment of this hop, on the way down and on the way back (NSM
//! `updatepath`).
//!
//! Input: the name of this hop's segment (unique per hop) and the connection as received from the
//! previous hop.
//! 1. The path has no segments: add ours; its id is the connection's id, or a new one if that is
//!    empty.
//! 2. The index already points to our segment (a refresh that starts here): use its id.
//! 3. The index must be within the path, else an error.
//! 4. The id of the segment at the index must equal the connection's id, else an error.
//! 5. The next segment has another name (this hop replaces it): set our name and a new id; segments
//!    to the right stay.
//! 6. There is no next segment: add ours with a new id.
//! 7. The index moves to our segment, and the connection's id becomes the segment's.
//!
//! On the way back, the index and the connection's id are restored to those of the previous hop.

use crate::api::{Connection, PathSegment};

/// The reason why a path was rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Rule 3: the index is outside the path.
    #[error("path index {index} is not within {len} segments")]
    Beyond {
        /// Index received.
        index: usize,
        /// Number of segments received.
        len: usize,
    },
    /// Rule 4: the current segment belongs to another connection.
    #[error("path segment `{segment}` is not connection `{connection}`")]
    NotYours {
        /// Id of the current segment.
        segment: String,
        /// Id of the connection.
        connection: String,
    },
}

/// Moves to our segment, adding it if needed. Returns the index to restore with [`leave`].
///
/// # Errors
/// Rules 3 and 4. The connection is unchanged in that case.
pub fn enter(
    connection: &mut Connection,
    name: &str,
    fresh: impl FnOnce() -> String,
) -> Result<usize, PathError> {
    let Connection { id, path, .. } = connection;
    let path = path.get_or_insert_default();
    let from = path.index as usize;
    let len = path.path_segments.len();
    if len == 0 {
        if id.is_empty() {
            *id = fresh();
        }
        path.path_segments.push(segment(name, id.clone())); // 1
        path.index = 0;
        return Ok(0);
    }
    let Some(sender) = path.path_segments.get(from) else {
        return Err(PathError::Beyond { index: from, len }); // 3
    };
    if sender.name == name {
        id.clone_from(&sender.id); // 2
        return Ok(from);
    }
    if sender.id != *id {
        let segment = sender.id.clone();
        let connection = id.clone();
        return Err(PathError::NotYours { segment, connection }); // 4
    }
    let own = from + 1;
    match path.path_segments.get_mut(own) {
        Some(there) if there.name != name => {
            name.clone_into(&mut there.name); // 5
            there.id = fresh();
        }
        Some(_) => {}
        None => path.path_segments.push(segment(name, fresh())), // 6
    }
    path.index += 1; // 7
    id.clone_from(&path.path_segments[own].id);
    Ok(from)
}

/// Restores the caller's index and id, if the answer's path is long enough.
pub fn leave(connection: &mut Connection, index: usize) {
    let Connection { id, path: Some(path), .. } = connection else {
        return;
    };
    if let (Some(segment), Ok(index)) = (path.path_segments.get(index), u32::try_from(index)) {
        id.clone_from(&segment.id);
        path.index = index;
    }
}

fn segment(name: &str, id: String) -> PathSegment {
    PathSegment { name: name.to_owned(), id, ..PathSegment::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(id: &str, index: u32, segments: &[(&str, &str)]) -> Connection {
        let mut connection = *Connection::named(id);
        connection.path_mut().index = index;
        connection.path_mut().path_segments =
            segments.iter().map(|(name, id)| segment(name, id.to_string())).collect();
        connection
    }

    #[test]
    fn enters_by_the_table() {
        let beyond = |index, len| Err(PathError::Beyond { index, len });
        let not_yours = Err(PathError::NotYours { segment: "1".into(), connection: "x".into() });
        // rule, before, answer, after; we are `me`, the fresh id is `new`
        #[rustfmt::skip]
        let table = [
            ("1 id given", at("a", 7, &[]), Ok(0), at("a", 0, &[("me", "a")])),
            ("1 id fresh", at("", 0, &[]), Ok(0), at("new", 0, &[("me", "new")])),
            ("2 own segment", at("x", 1, &[("c", "1"), ("me", "2")]), Ok(1), at("2", 1, &[("c", "1"), ("me", "2")])),
            ("3 beyond", at("1", 1, &[("c", "1")]), beyond(1, 1), at("1", 1, &[("c", "1")])),
            ("4 not yours", at("x", 0, &[("c", "1")]), not_yours, at("x", 0, &[("c", "1")])),
            ("5 replaced hop", at("1", 0, &[("c", "1"), ("old", "2"), ("e", "3")]), Ok(0), at("new", 1, &[("c", "1"), ("me", "new"), ("e", "3")])),
            ("6 new hop", at("1", 0, &[("c", "1")]), Ok(0), at("new", 1, &[("c", "1"), ("me", "new")])),
            ("7 known hop", at("1", 0, &[("c", "1"), ("me", "2"), ("e", "3")]), Ok(0), at("2", 1, &[("c", "1"), ("me", "2"), ("e", "3")])),
        ];
        for (rule, mut connection, answer, after) in table {
            assert_eq!(enter(&mut connection, "me", || "new".into()), answer, "{rule}");
            assert_eq!(connection, after, "{rule}");
        }
    }

    fn walk(connection: &mut Connection, hops: usize, mut fresh: impl FnMut() -> String) {
        let back: Vec<usize> =
            (0..hops).map(|hop| enter(connection, &format!("hop{hop}"), &mut fresh).unwrap()).collect();
        let segments = connection.segments();
        assert_eq!(connection.id, segments[hops - 1].id, "rule 7");
        for index in back.into_iter().rev() {
            leave(connection, index);
        }
    }

    proptest! {
        #[test]
        fn a_refresh_finds_the_same_path(hops in 1usize..9) {
            let mut connection = at("a", 0, &[]);
            let mut ids = 0..;
            walk(&mut connection, hops, || format!("{:?}", ids.next()));
            let first = connection.clone();
            prop_assert_eq!((&*first.id, first.index(), first.segments().len()), ("a", 0, hops));
            walk(&mut connection, hops, || unreachable!("a refresh needs no new id"));
            prop_assert_eq!(connection, first);
        }

        #[test]
        fn a_replaced_hop_changes_its_own_segment_only(hops in 2usize..9, at_hop in 1usize..8) {
            prop_assume!(at_hop < hops);
            let mut connection = at("a", 0, &[]);
            let mut ids = 0..;
            walk(&mut connection, hops, || format!("{:?}", ids.next()));
            let mut expected = connection.clone();
            expected.path_mut().path_segments[at_hop] = segment(&format!("hop{at_hop}"), "fresh".into());
            connection.path_mut().path_segments[at_hop].name = "gone".into();
            walk(&mut connection, hops, || "fresh".into());
            prop_assert_eq!(connection, expected);
        }

        #[test]
        fn no_path_makes_it_panic_and_an_error_changes_nothing(
            id in "[ab]?", index in 0u32..5, segments in prop::collection::vec(("[mx]", "[ab]"), 0..4)
        ) {
            let segments: Vec<_> = segments.iter().map(|(n, i)| (&**n, &**i)).collect();
            let mut connection = at(&id, index, &segments);
            let before = connection.clone();
            match enter(&mut connection, "m", || "new".into()) {
                Ok(_) => prop_assert_eq!(&connection.own_segment().unwrap().id, &connection.id),
                Err(_) => prop_assert_eq!(connection, before),
            }
            leave(&mut at(&id, index, &segments), index as usize);
        }
    }
}
