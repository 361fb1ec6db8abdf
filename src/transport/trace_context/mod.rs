// SPDX-License-Identifier: Apache-2.0

//! Carries W3C trace context between a [`tracing::Span`] and the `traceparent` and `tracestate`
//! headers of a call.
//!
//! Pure functions over spans: they need no exporter and no global propagator. Without an
//! OpenTelemetry layer in the subscriber, or with the span disabled, they do nothing and cost one
//! look-up. Without feature `otlp` they do nothing.

#[cfg(not(feature = "otlp"))]
mod none;
#[cfg(feature = "otlp")]
mod spans;

#[cfg(not(feature = "otlp"))]
pub use self::none::{current, inject, link, set_parent};
#[cfg(feature = "otlp")]
pub use self::spans::{current, inject, link, set_parent};

/// Header with trace id, parent span id and flags.
pub const TRACEPARENT: &str = "traceparent";
/// Header with vendor data, possibly empty.
pub const TRACESTATE: &str = "tracestate";
