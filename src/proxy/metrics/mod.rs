// SPDX-License-Identifier: Apache-2.0
//! The metrics of the proxy, in Prometheus' text format and by OTLP.
//!
//! Instruments of OpenTelemetry read the state that the parts publish anyway, when the metrics are
//! asked for. A text is kept for a second, so that many scrapes cost as much as one; it is made on
//! a thread for blocking work, by one scrape at a time, and no part waits for it. The number of
//! series of each metric is bounded, and so is the length of a label's value.
//!
//! `docs/metrics.md` lists all metrics; a test compares it with the declarations.

mod calls;
mod interfaces;
mod kernel;
mod metric;
mod peers;
mod process;
mod registry;
mod serve;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, timeout},
};

pub use self::calls::Timed;
use self::{calls::Calls, metric::Metric};
pub(crate) use self::{registry::TimedRegistry, serve::serve};
use super::{app, config::Config, state::Sources, telemetry};
use crate::{
    chain::{causes, observe::Observer},
    kernel::Work,
};

/// Name of the meter, as in Meridio's other components.
const METER: &str = "Meridio";
/// Time for which values are kept.
const FRESH: Duration = Duration::from_secs(1);

/// All metrics.
fn all() -> impl Iterator<Item = &'static Metric> {
    let groups: [&[&Metric]; 5] =
        [&interfaces::METRICS, &kernel::METRICS, &peers::METRICS, &calls::METRICS, &process::METRICS];
    groups.into_iter().flatten().copied()
}

/// Sets the metrics up, if they are served anywhere. A failure costs a warning and the metrics.
pub(crate) fn start(config: &Config, sources: &Sources) -> Option<Metrics> {
    if config.admin.is_none() && config.metrics.is_none() && config.metrics_export.is_none() {
        return None;
    }
    let metrics = Metrics::new(sources);
    metrics.map_err(|error| tracing::warn!(error = causes(&error), "no metrics")).ok()
}

/// The metrics of the proxy. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    provider: SdkMeterProvider,
    calls: Calls,
    last: Mutex<Option<(Instant, Bytes)>>,
    /// One text is made at a time.
    turn: Semaphore,
}

/// The metrics cannot be set up or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsError {
    /// A socket for the counters of ports.
    #[error("cannot open a socket for the counters of ports")]
    Counters(#[from] std::io::Error),
    /// The exporter.
    #[error("cannot set up the metrics")]
    Exporter(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// The encoder.
    #[error("cannot write the metrics")]
    Encoder(#[from] prometheus::Error),
    /// The thread that makes the text panicked.
    #[error("cannot read the metrics")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Metrics {
    /// Registers the metrics of the proxy.
    ///
    /// # Errors
    /// No socket can be opened.
    pub(crate) fn new(sources: &Sources) -> Result<Self, MetricsError> {
        Self::with_ports(sources, interfaces::ports()?)
    }

    fn with_ports(sources: &Sources, ports: interfaces::Read) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
        let config = sources.config();
        let mut provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(telemetry::resource(app::PROGRAM.traced, &config.name))
            .with_view(bounds);
        let mut losses = None;
        match config.metrics_export.as_ref().map(telemetry::metrics::reader).transpose() {
            Ok(Some((reader, of_export))) => {
                provider = provider.with_reader(reader);
                losses = Some(of_export);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(error = causes(&error), "metrics are not exported"),
        }
        let provider = provider.build();
        let meter = provider.meter(METER);
        interfaces::register(&meter, &config.trench, &config.conduit, ports);
        kernel::register(&meter, sources.handles());
        peers::register(&meter, sources.handles());
        process::register(&meter, sources.health(), sources.handles(), losses);
        let calls = Calls::new(&meter);
        let last = Mutex::default();
        let turn = Semaphore::new(1);
        Ok(Self(Arc::new(Inner { registry, provider, calls, last, turn })))
    }

    /// An observer of a chain, which counts its calls and measures their time.
    pub(crate) fn chain(&self, name: &'static str) -> Arc<dyn Observer> {
        self.0.calls.chain(name)
    }

    /// Records the time of each answer to the probes of load balancers.
    pub(crate) fn probes(&self, work: &Work) {
        kernel::probes(&self.0.provider.meter(METER), work);
    }

    /// Exports the last values, if there is an export, for at most `limit`. Later values are not
    /// exported.
    pub(crate) async fn stop(&self, limit: Duration) {
        let provider = self.0.provider.clone();
        // The SDK blocks in its shutdown, for longer than the limit.
        let stopping = spawn_blocking(move || provider.shutdown());
        if timeout(limit, stopping).await.is_err() {
            tracing::warn!("the last metrics are not exported: the exporter does not stop");
        }
    }

    /// The answer to a scrape.
    pub(crate) async fn answer(&self) -> Response {
        match self.render().await {
            Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
            Err(error) => {
                let error = causes(&error);
                tracing::error!(error, "no metrics");
                (StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
            }
        }
    }

    /// The text, at most a second old.
    ///
    /// # Errors
    /// A bug of the exporter or the encoder.
    pub(crate) async fn render(&self) -> Result<Bytes, MetricsError> {
        if let Some(text) = self.0.kept() {
            return Ok(text);
        }
        let _turn = self.0.turn.acquire().await;
        if let Some(text) = self.0.kept() {
            return Ok(text); // made by another scrape meanwhile
        }
        let inner = Arc::clone(&self.0);
        spawn_blocking(move || inner.make()).await?
    }
}

impl Inner {
    fn kept(&self) -> Option<Bytes> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(made, _)| made.elapsed() < FRESH).map(|(_, text)| text.clone())
    }

    fn make(&self) -> Result<Bytes, MetricsError> {
        let text = Bytes::from(TextEncoder::new().encode_to_string(&self.registry.gather())?);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

/// Bounds the series of each instrument; the SDK reserves memory for as many.
fn bounds(instrument: &Instrument) -> Option<Stream> {
    let metric = all().find(|metric| metric.name == instrument.name())?;
    Stream::builder().with_cardinality_limit(metric.series).build().ok()
}

/// Reads what a part publishes, once it is up.
fn of_part<T>(part: &OnceLock<watch::Receiver<T>>, read: impl FnOnce(&T)) {
    if let Some(part) = part.get() {
        read(&part.borrow());
    }
}

#[cfg(test)]
mod tests;
