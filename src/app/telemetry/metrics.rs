// SPDX-License-Identifier: Apache-2.0
//! Exports metrics by OTLP over gRPC.

use std::{sync::Arc, time::Duration};

use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};

use super::{
    Destination, Losses, TelemetryError,
    losses::{Counted, Signal},
};

/// Reads the metrics of a provider and exports them every `OTEL_METRIC_EXPORT_INTERVAL`, on a
/// thread of the SDK that nothing waits for. Returns also the counters of failed exports.
///
/// Must be called inside a tokio runtime, which runs the connection.
///
/// # Errors
/// [`TelemetryError`] for a malformed variable or file, never for an unavailable collector.
pub(crate) fn reader(
    destination: &Destination,
) -> Result<(PeriodicReader<impl PushMetricExporter>, Arc<Losses>), TelemetryError> {
    let builder = MetricExporter::builder().with_tonic();
    let exporter = destination.exporter(builder, |builder| builder.build())?;
    let losses = Arc::new(Losses::default());
    let exporter = Counted { inner: exporter, losses: Arc::clone(&losses) };
    Ok((PeriodicReader::builder(exporter).build(), losses))
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        self.losses.note(Signal { name: "metrics", spans: 0 }, &result);
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
