// SPDX-License-Identifier: Apache-2.0

//! Receives spans and metrics by OTLP over gRPC, and keeps them for inspection.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{NumberDataPoint, ResourceMetrics, metric::Data, number_data_point},
    trace::v1::{ResourceSpans, Span},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::{task::Tasks, testing::accept};

/// Maximum number of batches. Later ones are refused.
const BATCHES: usize = 4096;

/// An OTLP receiver on loopback. Clones share the received spans and metrics.
#[derive(Clone, Default)]
pub struct Collector {
    spans: Arc<Mutex<Vec<ResourceSpans>>>,
    metrics: Arc<Mutex<Vec<ResourceMetrics>>>,
}

/// A series of a metric: its text attributes, and its value.
pub type Series = (HashMap<String, String>, f64);

/// A received span, with the fields that define the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Name of the span.
    pub name: String,
    /// Id of its trace, in hexadecimal.
    pub trace: String,
    /// Its own id, in hexadecimal.
    pub id: String,
    /// Id of its parent, in hexadecimal; empty for a root.
    pub parent: String,
    /// Ids of linked traces, in hexadecimal.
    pub links: Vec<String>,
    /// Attributes with a text as value.
    pub attributes: HashMap<String, String>,
}

impl Collector {
    /// Listens on a free port of loopback until the tasks end. Returns the value for
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    ///
    /// # Errors
    /// That of the socket.
    pub async fn listen(&self, tasks: &Tasks) -> io::Result<String> {
        self.listen_at(SocketAddr::from(([127, 0, 0, 1], 0)), tasks).await
    }

    /// The same, on a port of choice.
    ///
    /// # Errors
    /// That of the socket.
    pub(crate) async fn listen_at(&self, at: SocketAddr, tasks: &Tasks) -> io::Result<String> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()));
        tasks.spawn(async move {
            if let Err(error) = server.serve_with_incoming(accept::tcp(listener)).await {
                tracing::error!(%error, "the OTLP receiver ended");
            }
        });
        Ok(format!("http://{address}"))
    }

    /// The spans received so far, in order of arrival.
    pub fn spans(&self) -> Vec<Received> {
        let batches = self.lock();
        let spans = batches.iter().flat_map(|batch| &batch.scope_spans).flat_map(|scope| &scope.spans);
        spans.map(Received::of).collect()
    }

    /// The series of the last export of metrics, by the name of the metric: the text attributes of
    /// each with its value; for a histogram, the number of its values.
    pub fn metrics(&self) -> HashMap<String, Vec<Series>> {
        let batches = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let scopes = batches.last().into_iter().flat_map(|batch| &batch.scope_metrics);
        let metrics = scopes.flat_map(|scope| &scope.metrics);
        metrics.map(|metric| (metric.name.clone(), series(metric.data.as_ref()))).collect()
    }

    /// A text attribute of the resource that sent the first batch.
    pub fn resource(&self, key: &str) -> Option<String> {
        let batches = self.lock();
        let resource = batches.first()?.resource.as_ref()?;
        texts(&resource.attributes).remove(key)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ResourceSpans>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received {
    fn of(span: &Span) -> Self {
        Self {
            name: span.name.clone(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
            attributes: texts(&span.attributes),
        }
    }
}

fn series(data: Option<&Data>) -> Vec<Series> {
    let numbers = |points: &[NumberDataPoint]| points.iter().filter_map(number).collect();
    match data {
        Some(Data::Gauge(gauge)) => numbers(&gauge.data_points),
        Some(Data::Sum(sum)) => numbers(&sum.data_points),
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.iter();
            points.map(|point| (texts(&point.attributes), point.count as f64)).collect()
        }
        _ => Vec::new(),
    }
}

fn number(point: &NumberDataPoint) -> Option<Series> {
    let value = match point.value? {
        number_data_point::Value::AsDouble(value) => value,
        number_data_point::Value::AsInt(value) => value as f64,
    };
    Some((texts(&point.attributes), value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    attributes
        .iter()
        .filter_map(|attribute| match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some((attribute.key.clone(), text.clone())),
            _ => None,
        })
        .collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut batches = self.lock();
        if batches.len() >= BATCHES {
            return Err(Status::resource_exhausted(format!("{BATCHES} batches are kept already")));
        }
        batches.extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut batches = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() >= BATCHES {
            return Err(Status::resource_exhausted(format!("{BATCHES} batches are kept already")));
        }
        batches.extend(request.into_inner().resource_metrics);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
