// SPDX-License-Identifier: Apache-2.0

//! Carries the tokens of a registration in the `path` header.
//!
//! Each hop of a Register or Unregister appends its token; the answer returns the whole path, and
//! the next call repeats it. A call without the header is refused by a registry that has policies,
//! so the first one sends the empty path.

use std::fmt;

use serde::{Deserialize, Serialize};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// Key of the header, in requests and in the initial headers of answers.
pub(crate) const HEADER: &str = "path";
/// Maximum number of segments.
pub(crate) const MAX_SEGMENTS: usize = 64;
/// Maximum size of the header in bytes.
pub(crate) const MAX_BYTES: usize = 32 << 10;

/// Tokens of the hops of a registration: JSON `{"Index":0,"PathSegments":[{"token":"…"}]}`, `null`
/// instead of an empty list.
///
/// `Debug` does not show the tokens.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPath {
    #[serde(rename = "Index", alias = "index", default)]
    index: u32,
    #[serde(rename = "PathSegments", alias = "pathSegments", alias = "pathsegments", default)]
    segments: Option<Vec<Segment>>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Segment {
    #[serde(alias = "Token", default)]
    token: String,
}

/// The reason why a `path` header was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPath {
    /// The header is longer than 32 KiB.
    #[error("the `path` header has {0} bytes (at most {MAX_BYTES})")]
    Long(usize),
    /// The path has more than 64 segments.
    #[error("the `path` header has {0} segments (at most {MAX_SEGMENTS})")]
    Segments(usize),
    /// The index does not point at a segment of the caller.
    #[error("the `path` header has index {index} (accepted: below {accepted})")]
    Index {
        /// The index received.
        index: u32,
        /// First index that is not accepted.
        accepted: usize,
    },
    /// The header is not the JSON of a path.
    #[error("the `path` header is not a path: {0}")]
    Json(String),
}

impl TokenPath {
    /// Reads the header; the last one counts if there are several. `Ok(None)` if there is none.
    ///
    /// # Errors
    /// [`InvalidPath`] for a header beyond the bounds, or that is not a path. The tokens themselves
    /// are not checked.
    pub fn read(metadata: &MetadataMap) -> Result<Option<Self>, InvalidPath> {
        metadata.get_all(HEADER).iter().next_back().map(Self::parse).transpose()
    }

    fn parse(value: &MetadataValue<Ascii>) -> Result<Self, InvalidPath> {
        if value.len() > MAX_BYTES {
            return Err(InvalidPath::Long(value.len()));
        }
        // The position alone, because the text may contain tokens.
        let path: Self = serde_json::from_slice(value.as_bytes())
            .map_err(|e| InvalidPath::Json(format!("{:?} error in column {}", e.classify(), e.column())))?;
        let index = path.index;
        let len = path.len();
        match len {
            _ if len > MAX_SEGMENTS => Err(InvalidPath::Segments(len)),
            _ if index as usize >= len.max(1) => Err(InvalidPath::Index { index, accepted: len.max(1) }),
            _ => Ok(path),
        }
    }

    /// Writes the header.
    pub fn write(&self, metadata: &mut MetadataMap) {
        let value = serde_json::to_vec(self).ok().and_then(|json| MetadataValue::try_from(&*json).ok());
        if let Some(value) = value {
            metadata.insert(HEADER, value);
        }
    }

    /// Enters the path as a server: the caller's token goes to the index, the own one after it. The
    /// path is then the answer, its index being the caller's; a further hop gets it from
    /// [`next`](Self::next).
    pub fn enter(&mut self, caller: String, own: String) {
        let caller = Segment { token: caller };
        let own = Segment { token: own };
        let at = self.index as usize;
        let segments = self.segments.get_or_insert_default();
        segments.truncate(MAX_SEGMENTS);
        for (index, segment) in [(at, caller), (at + 1, own)] {
            match segments.get_mut(index) {
                Some(there) => *there = segment,
                None => segments.push(segment),
            }
        }
    }

    /// The path for the call to the next hop.
    pub fn next(&self) -> Self {
        Self { index: self.index + 1, segments: self.segments.clone() }
    }

    /// The answer of the next hop, for the caller of this one.
    pub fn back(&self) -> Self {
        Self { index: self.index.saturating_sub(1), segments: self.segments.clone() }
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.segments.as_ref().map_or(0, Vec::len)
    }

    /// Whether there are no segments.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens, from the client on.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().flatten().map(|segment| &*segment.token)
    }
}

impl fmt::Debug for TokenPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenPath {{ index: {}, segments: {} }}", self.index, self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(values: &[&str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append(HEADER, value.parse().unwrap());
        }
        metadata
    }

    fn written(path: &TokenPath) -> String {
        let mut metadata = MetadataMap::new();
        path.write(&mut metadata);
        metadata.get(HEADER).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_first_header_is_that_of_go() {
        assert_eq!(written(&TokenPath::default()), r#"{"Index":0,"PathSegments":null}"#);
    }

    #[test]
    fn a_returned_path_is_repeated_byte_for_byte() {
        let text = r#"{"Index":0,"PathSegments":[{"token":"a.b.c"},{"token":"d.e.f"},{"token":"g.h.i"}]}"#;
        let path = TokenPath::read(&header(&[text])).unwrap().unwrap();
        assert_eq!(path.tokens().collect::<Vec<_>>(), ["a.b.c", "d.e.f", "g.h.i"]);
        assert_eq!(written(&path), text);
        assert_eq!(format!("{path:?}"), "TokenPath { index: 0, segments: 3 }", "tokens are not shown");
    }

    #[test]
    fn reads_all_values_that_go_accepts() {
        let one = TokenPath { index: 0, segments: Some(vec![Segment { token: "t".into() }]) };
        let empty = TokenPath { index: 0, segments: Some(vec![]) };
        let table = [
            ("{}", TokenPath::default()),
            (r#"{"Index":0,"PathSegments":null}"#, TokenPath::default()),
            (r#"{"Index":0,"PathSegments":[]}"#, empty),
            (r#"{"index":0,"pathSegments":[{"Token":"t"}]}"#, one.clone()),
            (r#"{"Index":0,"PathSegments":[{"token":"t","more":1}]}"#, one),
        ];
        for (text, expected) in table {
            assert_eq!(TokenPath::read(&header(&[text])), Ok(Some(expected)), "{text}");
        }
        assert_eq!(TokenPath::read(&header(&[])), Ok(None));
        assert_eq!(
            TokenPath::read(&header(&["rubbish", "{}"])),
            Ok(Some(TokenPath::default())),
            "the last one counts"
        );
    }

    #[test]
    fn refuses_by_the_table() {
        let segments = |n| format!(r#"{{"PathSegments":[{}]}}"#, vec![r#"{"token":""}"#; n].join(","));
        let table = [
            (segments(65), "has 65 segments (at most 64)"),
            (format!("{}{}", " ".repeat(MAX_BYTES), "{}"), "has 32770 bytes (at most 32768)"),
            (r#"{"Index":1,"PathSegments":[{"token":"secret"}]}"#.into(), "has index 1 (accepted: below 1)"),
            (r#"{"Index":1}"#.into(), "has index 1 (accepted: below 1)"),
            (r#"{"Index":-1}"#.into(), "is not a path: Data error in column 11"),
            ("secret".into(), "is not a path: Syntax error in column 1"),
            ("".into(), "is not a path: Eof error"),
        ];
        for (text, expected) in table {
            let error = TokenPath::read(&header(&[&text])).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
        assert!(TokenPath::read(&header(&[&segments(64)])).is_ok());
    }

    #[test]
    fn each_hop_adds_its_token_and_the_answer_has_the_callers_index() {
        for mut path in [
            TokenPath::default(),
            TokenPath { index: 0, segments: Some(vec![Segment { token: "old".into() }; 3]) },
        ] {
            path.enter("client>manager".into(), "manager>client".into());
            let mut further = path.next();
            further.enter("manager>registry".into(), "registry>manager".into());
            let answer = further.back();
            assert_eq!(answer.index, 0);
            let tokens: Vec<_> = answer.tokens().collect();
            assert_eq!(tokens, ["client>manager", "manager>registry", "registry>manager"]);
        }
    }
}
