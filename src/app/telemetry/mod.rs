// SPDX-License-Identifier: Apache-2.0
//! Exports spans and metrics by OTLP over gRPC.
//!
//! A [`Destination`] sets the collector and its verification; the OpenTelemetry SDK itself reads
//! the other standard `OTEL_*` variables. Only spans and events of this crate and of the program
//! are exported, down to one span per row of a chain. Trace context enters and leaves with calls by
//! [`trace_context`](crate::transport::trace_context). A collector that does not answer costs the
//! spans, counters and at most one log line a minute for each of both: spans wait in a bounded
//! queue, metrics keep their values, and threads of the SDK that no call waits for export them.

mod destination;
mod losses;
#[cfg(feature = "proxy")]
pub(crate) mod metrics;

use std::{sync::Arc, time::Duration};

use opentelemetry::{Key, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::{task::spawn_blocking, time::timeout};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use self::losses::Counted;
pub use self::{
    destination::{ClientFiles, DEFAULT_ENDPOINT, Destination, FileError},
    losses::Losses,
};
use super::program::Program;

/// The export cannot be set up. Correct the named file or variable.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A file for the collector's TLS.
    #[error("cannot set up the export")]
    File(#[from] FileError),
    /// A variable that the SDK reads is malformed.
    #[error("cannot set up the export")]
    Exporter(#[source] ExporterBuildError),
    /// The same, or this machine has no certificates to verify the collector.
    #[error(
        "cannot set up the export by the certificates of this machine (OTEL_EXPORTER_OTLP_CERTIFICATE names others)"
    )]
    Machine(#[source] ExporterBuildError),
}

/// A running export of spans.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    losses: Arc<Losses>,
    program: Program,
}

impl Telemetry {
    /// Sets up the export for the instance `name` of a program, whose crate is `program`. That is
    /// `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` sets another.
    /// Connects when there is something to send.
    ///
    /// Must be called inside a tokio runtime, which runs the connection.
    ///
    /// # Errors
    /// [`TelemetryError`] for a malformed variable or file, never for an unavailable collector.
    pub fn start(
        program: &'static str,
        name: &str,
        destination: &Destination,
    ) -> Result<Self, TelemetryError> {
        Self::start_as(Program::new(program), name, destination)
    }

    /// The same for a program of several names.
    pub(crate) fn start_as(
        program: Program,
        name: &str,
        destination: &Destination,
    ) -> Result<Self, TelemetryError> {
        let builder = SpanExporter::builder().with_tonic();
        let exporter = destination.exporter(builder, |builder| builder.build())?;
        let losses = Arc::new(Losses::default());
        let exporter = Counted { inner: exporter, losses: Arc::clone(&losses) };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(program.traced, name))
            .build();
        Ok(Self { provider, losses, program })
    }

    /// The layer that turns spans into exported spans.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer: SdkTracer = self.provider.tracer(self.program.traced);
        let own = Targets::new()
            .with_targets([("nsm", LevelFilter::DEBUG), (self.program.own, LevelFilter::DEBUG)]);
        tracing_opentelemetry::layer().with_tracer(tracer).with_threads(false).with_filter(own)
    }

    /// Counters of the spans that were not exported.
    pub fn losses(&self) -> Arc<Losses> {
        Arc::clone(&self.losses)
    }

    /// Exports the waiting spans, for at most `limit`, and stops. Spans that end later are not
    /// exported.
    pub async fn stop(self, limit: Duration) {
        let provider = self.provider;
        // The SDK blocks in its shutdown, and its own limit does not cover all of it.
        let stopping = spawn_blocking(move || provider.shutdown_with_timeout(limit));
        match timeout(limit + Duration::from_millis(500), stopping).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "spans lost at shutdown"),
            Ok(Err(_)) | Err(_) => tracing::warn!("spans lost at shutdown: the exporter does not stop"),
        }
    }
}

/// The standard resource, with our defaults for the attributes that it lacks.
pub(crate) fn resource(service: &'static str, name: &str) -> Resource {
    let standard = Resource::builder().build();
    let mut defaults = Vec::new();
    let of = |key: &'static str| standard.get(&Key::from_static_str(key)).map(|value| value.to_string());
    if of("service.name").is_none_or(|name| name.starts_with("unknown_service")) {
        defaults.push(KeyValue::new("service.name", service));
    }
    for (key, value) in [("service.instance.id", name), ("service.version", env!("CARGO_PKG_VERSION"))] {
        if of(key).is_none() {
            defaults.push(KeyValue::new(key, value.to_owned()));
        }
    }
    Resource::builder().with_attributes(defaults).build()
}

#[cfg(test)]
mod tests;
