// SPDX-License-Identifier: Apache-2.0
//! The page that draws the state: one file, which loads nothing but the state.
//!
//! Its style and its script are allowed by their hashes, so the browser runs nothing else, whatever
//! a peer has written into a name.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};

use super::answers;

const PAGE: &str = include_str!("page.html");

/// Nothing but the page's own style, script and data, in no frame.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let [style, script] = ["style", "script"].map(|tag| hash(inside(tag)));
    format!(
        "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The page.
pub(super) async fn page() -> Response {
    let mut answer = answers::answer(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// The content of the only element with a tag.
fn inside(tag: &str) -> &'static str {
    let open = format!("<{tag}>");
    let close = format!("</{tag}>");
    let rest = PAGE.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(inside, _)| inside)
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for mark in
            ["http:", "https:", "//cdn", "@import", "url(", "style=\"", "onclick", "innerHTML", "eval("]
        {
            assert!(!PAGE.contains(mark), "{mark}");
        }
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
    }

    #[tokio::test]
    async fn the_policy_has_the_hashes_of_style_and_script() {
        let answer = page().await;
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!inside("style").is_empty() && !inside("script").is_empty());
        assert!(policy.contains(&hash(inside("script"))) && !policy.contains("unsafe"), "{policy}");
    }
}
