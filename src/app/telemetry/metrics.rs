// SPDX-License-Identifier: Apache-2.0
//! Exports metrics by OTLP over gRPC.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};

use super::{Destination, TelemetryError};

/// Reads the metrics of a provider and exports them every `OTEL_METRIC_EXPORT_INTERVAL`, on a
/// thread of the SDK that nothing waits for.
///
/// Must be called inside a tokio runtime, which runs the connection.
///
/// # Errors
/// [`TelemetryError`] for a malformed variable or file, never for an unavailable collector.
pub(crate) fn reader(
    destination: &Destination,
) -> Result<PeriodicReader<impl PushMetricExporter>, TelemetryError> {
    let builder = MetricExporter::builder().with_tonic();
    let exporter = destination.exporter(builder, |builder| builder.build())?;
    Ok(PeriodicReader::builder(Logged { inner: exporter, failing: AtomicBool::default() }).build())
}

/// An exporter whose failures are logged when they begin and when they end.
struct Logged<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E: PushMetricExporter> PushMetricExporter for Logged<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        match (&result, self.failing.swap(result.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(%error, "metrics are not exported"),
            (Ok(()), true) => tracing::info!("metrics are exported again"),
            _ => {}
        }
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
