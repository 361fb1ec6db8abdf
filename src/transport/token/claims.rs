// SPDX-License-Identifier: Apache-2.0

//! Encodes and decodes the claims of a token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MAX_TOKEN;

/// Maximum length of a SPIFFE id, in bytes.
const MAX_ID: usize = 2048;

/// The claims that NSM's policies check. A claim of another type than expected counts as absent.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    sub: Value,
    #[serde(default)]
    aud: Value,
    #[serde(default)]
    exp: Value,
}

/// The claims in the order in which Go writes them.
#[derive(Serialize)]
struct Written<'a> {
    sub: &'a str,
    aud: [&'a str; 1],
    exp: u64,
}

impl Claims {
    /// JSON of the claims of a token of `sub` for `aud`.
    pub(super) fn encode(sub: &str, aud: &str, exp: u64) -> Vec<u8> {
        // A struct of texts and a number always has a JSON form.
        serde_json::to_vec(&Written { sub, aud: [aud], exp }).unwrap_or_default()
    }

    /// The claims of a JWT of three parts, each base64url, the first two JSON objects; `None` if it
    /// is not one, or too long.
    pub(super) fn decode(jwt: &str) -> Option<Self> {
        if jwt.len() > MAX_TOKEN {
            return None;
        }
        let mut parts = jwt.split('.').map(|part| URL_SAFE_NO_PAD.decode(part));
        let header = parts.next()?.ok()?;
        let claims = parts.next()?.ok()?;
        let _signature = parts.next()?.ok()?;
        let header: Value = serde_json::from_slice(&header).ok()?;
        (parts.next().is_none() && header.is_object()).then_some(())?;
        serde_json::from_slice(&claims).ok()
    }

    /// SPIFFE id of the maker, if it is a text of acceptable length.
    pub(super) fn maker(&self) -> Option<&str> {
        self.sub.as_str().filter(|id| (1..=MAX_ID).contains(&id.len()))
    }

    /// Expiry in seconds since 1970, if it is a number.
    pub(super) fn expiry(&self) -> Option<f64> {
        self.exp.as_f64()
    }

    /// Whether the audience of this token includes the maker of `next`: a text in the array `aud`.
    /// A bare text does not count.
    pub(super) fn leads_to(&self, next: &Claims) -> bool {
        next.sub.is_string() && self.aud.as_array().is_some_and(|aud| aud.contains(&next.sub))
    }
}
