// SPDX-License-Identifier: Apache-2.0
//! The answers of the routes.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;

/// Maximum length of a text of the client in an answer, in characters.
const MAX_SHOWN: usize = 128;

/// One or more lines of text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    answer(status, "text/plain; charset=utf-8", text.into() + "\n")
}

/// A document.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            answer(StatusCode::OK, "application/json", bytes)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("not written as JSON: {error}")),
    }
}

/// A body of a media type. No answer is kept by a cache, sniffed, or shown by another site.
pub(crate) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The beginning of a text of the client, on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect()
}
