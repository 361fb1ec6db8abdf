// SPDX-License-Identifier: Apache-2.0

//! Issues and verifies the tokens that travel in the path of a connection, exactly as NSM's Go
//! components do.
//!
//! A token is a JWT with header `{"alg":"ES256","typ":"JWT"}` and claims `sub` (SPIFFE id of its
//! maker), `aud` (array with the SPIFFE id of the TLS peer) and `exp` (whole seconds). It is signed
//! with the key of the SVID that the maker presented on the connection. A new one is made for each
//! call.

mod claims;
mod policy;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::{Status, metadata::MetadataMap};

use self::claims::Claims;
pub use self::policy::{Denied, verify_answer, verify_received};
use crate::transport::identity::{Peer, Svid};

/// Maximum length of a token in bytes. Go's are about 400.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Metadata key of the token of a call.
pub const TOKEN: &str = "nsm-client-token";
/// Metadata key of its expiry, in RFC 3339.
pub const EXPIRES: &str = "nsm-client-token-expires";

const HEADER: &[u8] = br#"{"alg":"ES256","typ":"JWT"}"#;

/// A token and the time that travels beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    jwt: String,
    expires: SystemTime,
}

/// A token could not be signed: the system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system has no random numbers to sign a token with")]
pub struct Unsigned;

/// Issues a token for `peer`. Its `exp` is no later than `lifetime` from now and the expiry of
/// `svid`; its [`expires`](Token::expires) also no later than the expiry of the peer's certificate.
///
/// # Errors
/// [`Unsigned`].
pub fn issue(svid: &Svid, peer: &Peer, lifetime: Duration) -> Result<Token, Unsigned> {
    let end = (SystemTime::now() + lifetime).min(svid.not_after());
    let exp = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims::encode(svid.id(), peer.id(), exp);
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
    let signature = svid.sign(message.as_bytes()).map_err(|_| Unsigned)?;
    let jwt = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    Ok(Token { jwt, expires: end.min(peer.not_after()) })
}

impl Token {
    /// The JWT.
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// When the token expires for readers that do not decode it: the `expires` of a path segment.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// The token of a call; `None` if its caller sent none. Not verified.
    ///
    /// # Errors
    /// `InvalidArgument` if token and expiry are not both present exactly once, or one of them
    /// cannot be parsed.
    pub fn of_call(metadata: &MetadataMap) -> Result<Option<Self>, Status> {
        let (Some(jwt), Some(expires)) = (once(metadata, TOKEN)?, once(metadata, EXPIRES)?) else {
            return match metadata.contains_key(TOKEN) || metadata.contains_key(EXPIRES) {
                true => {
                    Err(Status::invalid_argument(format!("metadata {TOKEN} and {EXPIRES}: one is missing")))
                }
                false => Ok(None),
            };
        };
        let expires =
            expires.parse().ok().and_then(|time: prost_types::Timestamp| SystemTime::try_from(time).ok());
        let expires = expires.ok_or_else(|| {
            Status::invalid_argument(format!("metadata {EXPIRES} is not a time in RFC 3339"))
        })?;
        Ok(Some(Self { jwt: jwt.to_owned(), expires }))
    }

    /// Adds the token to the metadata of a call.
    pub(crate) fn attach(&self, metadata: &mut MetadataMap) {
        let expires = prost_types::Timestamp::from(self.expires).to_string();
        if let (Ok(jwt), Ok(expires)) = (self.jwt.parse(), expires.parse()) {
            metadata.insert(TOKEN, jwt);
            metadata.insert(EXPIRES, expires);
        }
    }
}

/// Without the JWT, because its holder may use it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The only value of a metadata key, as text of bounded length.
fn once<'a>(metadata: &'a MetadataMap, key: &str) -> Result<Option<&'a str>, Status> {
    let mut values = metadata.get_all(key).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Status::invalid_argument(format!("metadata {key} is there more than once")));
    }
    let text = value.to_str().ok().filter(|text| text.len() <= MAX_TOKEN);
    text.map(Some).ok_or_else(|| {
        Status::invalid_argument(format!("metadata {key} is not text of at most {MAX_TOKEN} bytes"))
    })
}
