// SPDX-License-Identifier: Apache-2.0

//! Bounds of monitor streams.

use tonic::Status;

/// Bounds of [`Connections`](super::Connections).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams open at once.
    pub streams: usize,
    /// Events that may wait for one reader before its stream is ended.
    pub events: usize,
    /// Path segments and network services of one selector.
    pub selector: usize,
    /// Bytes of the first event. Peers refuse messages above 4 MiB.
    pub first: usize,
}

impl Default for Limits {
    /// Two streams for each of 4,096 connections; 256 events.
    fn default() -> Self {
        Self { streams: 8192, events: 256, selector: 64, first: 4 << 20 }
    }
}

/// The reason why a subscription was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Too many streams are open. Retry later.
    #[error("{0} monitor streams are open (at most {0})")]
    Streams(usize),
    /// The selector is too long. Select by fewer segments or services.
    #[error("the selector has {found} {what} (at most {limit})")]
    Selector {
        /// The items that exceed the limit.
        what: &'static str,
        /// Their number.
        found: usize,
        /// Maximum number.
        limit: usize,
    },
    /// The selected connections do not fit in one message. Narrow the selector.
    #[error("the selected connections take {found} bytes (at most {limit}): narrow the selector")]
    First {
        /// Bytes of the event.
        found: usize,
        /// Maximum size.
        limit: usize,
    },
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Status::resource_exhausted(refused.to_string())
    }
}
