// SPDX-License-Identifier: Apache-2.0

//! The functions of [`trace_context`](super) without feature `otlp`: no span has a context.

use tracing::Span;

/// Sets no parent. Returns `false`.
pub fn set_parent(_: &Span, _: &str, _: &str) -> bool {
    false
}

/// Links nothing.
pub fn link(_: &Span, _: &str, _: &str) {}

/// Returns `None`: no span is recorded.
pub fn current(_: &Span) -> Option<(String, String)> {
    None
}

/// Adds no header.
pub fn inject(_: &Span, _: &mut http::HeaderMap) {}
