// SPDX-License-Identifier: Apache-2.0

//! Short identifiers of the owners of leases.

use std::{fmt, sync::Arc};

use ring::digest::{SHA256, digest};

use crate::chain::Owner;

/// Bytes of the digest.
const BYTES: usize = 16;

/// Digest of an owner's SPIFFE id, as 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The tag of an owner.
    pub fn of(owner: &Owner) -> Self {
        let digest = digest(&SHA256, owner.id().as_bytes());
        let hex: String = digest.as_ref().iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self(hex.into())
    }

    /// Parses a tag; `None` if the text is not one.
    pub fn read(text: &str) -> Option<Self> {
        (text.len() == 2 * BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
            .then(|| Self(text.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_as_it_is_written_and_nothing_else_is() {
        let tag = Tag::of(&Owner::new("spiffe://a.test/ns/red/pod/a"));
        assert_eq!(Tag::read(&tag.to_string()), Some(tag.clone()));
        assert_ne!(tag, Tag::of(&Owner::new("spiffe://a.test/ns/blue/pod/a")));
        let text = tag.to_string();
        for wrong in
            ["", &text[1..], &text.to_uppercase().replace(char::is_numeric, "G"), &format!("{text}0")]
        {
            assert_eq!(Tag::read(wrong), None, "{wrong}");
        }
    }
}
