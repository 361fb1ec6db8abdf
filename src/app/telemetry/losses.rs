// SPDX-License-Identifier: Apache-2.0
//! Counts failed exports, and logs them at a bounded rate.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

/// Shortest time between two log lines about failed exports.
const QUIET: Duration = Duration::from_secs(60);

/// Counters of the failed exports of spans or of metrics.
#[derive(Debug, Default)]
pub struct Losses {
    exports: AtomicU64,
    spans: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Losses {
    /// Number of exports that failed.
    pub fn exports(&self) -> u64 {
        self.exports.load(Ordering::Relaxed)
    }

    /// Number of spans in them; 0 for metrics.
    pub fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }

    /// Counts a failure; returns whether it is time for a line.
    fn failed(&self, spans: u64, now: Instant) -> bool {
        self.exports.fetch_add(1, Ordering::Relaxed);
        self.spans.fetch_add(spans, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.is_none_or(|at| now.duration_since(at) >= QUIET);
        if due {
            *said = Some(now);
        }
        due
    }

    /// Returns whether exports had failed until now.
    fn succeeded(&self) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Counts and logs the result of an export.
    pub(super) fn note(&self, signal: Signal, result: &OTelSdkResult) {
        let Signal { name, spans } = signal;
        match result {
            Ok(()) if self.succeeded() => {
                tracing::info!(failures = self.exports(), "{name} are exported again");
            }
            Ok(()) => {}
            Err(error) => {
                if self.failed(spans as u64, Instant::now()) {
                    tracing::warn!(%error, failures = self.exports(), "{name} are not exported");
                }
            }
        }
    }
}

/// The content of an export.
pub(super) struct Signal {
    /// The kind, for the log.
    pub(super) name: &'static str,
    /// Number of spans.
    pub(super) spans: usize,
}

/// An exporter whose failures are counted.
#[derive(Debug)]
pub(super) struct Counted<E> {
    pub(super) inner: E,
    pub(super) losses: Arc<Losses>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let signal = Signal { name: "spans", spans: batch.len() };
        let result = self.inner.export(batch).await;
        self.losses.note(signal, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_counted_and_one_line_a_minute_is_due() {
        let losses = Losses::default();
        let start = Instant::now();
        let due: Vec<bool> =
            [0, 1, 59, 60, 61, 120].map(|s| losses.failed(2, start + Duration::from_secs(s))).to_vec();
        assert_eq!(due, [true, false, false, true, false, true]);
        assert_eq!((losses.exports(), losses.spans()), (6, 12));
        assert!(losses.succeeded());
        assert!(!losses.succeeded());
        assert!(losses.failed(1, start), "a new outage is logged at once");
    }
}
