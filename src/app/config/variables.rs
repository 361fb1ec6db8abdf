// SPDX-License-Identifier: Apache-2.0

//! The variables of the export of spans.

use super::variable::Variable;

pub(crate) const TELEMETRY: Variable = Variable::lenient(
    "TELEMETRY",
    "",
    "true exports spans by OTLP/gRPC, false does not; unset: if an endpoint is set",
);
pub(crate) const OTLP_ENDPOINT: Variable = Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "Address of the OTLP collector: http://host:port, https://host:port, or host:port for http (http://localhost:4317 with TELEMETRY=true)").or("OTEL_EXPORTER_OTLP_ENDPOINT");
pub(crate) const OTLP_CERTIFICATE: Variable = Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "", "File of the certificates (PEM) that vouch for an https:// collector; unset: those of the machine, of which the image has none").or("OTEL_EXPORTER_OTLP_CERTIFICATE");
pub(crate) const OTLP_CLIENT_CERTIFICATE: Variable = Variable::of_otel(
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "",
    "File of the certificate (PEM) that is shown to an https:// collector; needs the key",
)
.or("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
pub(crate) const OTLP_CLIENT_KEY: Variable =
    Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "", "File of its private key (PEM)")
        .or("OTEL_EXPORTER_OTLP_CLIENT_KEY");
pub(crate) const OTLP_PROTOCOL: Variable = Variable::of_otel(
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "grpc",
    "grpc; any other value logs a warning, and gRPC is used",
)
.or("OTEL_EXPORTER_OTLP_PROTOCOL");
pub(crate) const TRACES_EXPORTER: Variable = Variable::of_otel(
    "OTEL_TRACES_EXPORTER",
    "otlp",
    "otlp, or none to export nothing; a list, of which the others are ignored",
);
pub(crate) const SDK_DISABLED: Variable = Variable::of_otel(
    "OTEL_SDK_DISABLED",
    "false",
    "true exports nothing, regardless of the other variables",
);
pub(crate) const OTLP_HEADERS: Variable =
    Variable::of_sdk("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "", "Headers for the collector: key=value,…")
        .or("OTEL_EXPORTER_OTLP_HEADERS");
pub(crate) const OTLP_COMPRESSION: Variable =
    Variable::of_sdk("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "", "gzip compresses the exported spans")
        .or("OTEL_EXPORTER_OTLP_COMPRESSION");
pub(crate) const OTLP_TIMEOUT: Variable =
    Variable::of_sdk("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10000", "Milliseconds for one export")
        .or("OTEL_EXPORTER_OTLP_TIMEOUT");
pub(crate) const OTEL_RESOURCE_ATTRIBUTES: Variable =
    Variable::of_sdk("OTEL_RESOURCE_ATTRIBUTES", "", "Attributes of the resource: key=value,…");
pub(crate) const OTEL_TRACES_SAMPLER: Variable =
    Variable::of_sdk("OTEL_TRACES_SAMPLER", "parentbased_always_on", "Which traces are recorded");
pub(crate) const OTEL_TRACES_SAMPLER_ARG: Variable =
    Variable::of_sdk("OTEL_TRACES_SAMPLER_ARG", "", "Argument of the sampler");
pub(crate) const OTEL_BSP_SCHEDULE_DELAY: Variable =
    Variable::of_sdk("OTEL_BSP_SCHEDULE_DELAY", "5000", "Milliseconds between exports");
pub(crate) const OTEL_BSP_MAX_QUEUE_SIZE: Variable =
    Variable::of_sdk("OTEL_BSP_MAX_QUEUE_SIZE", "2048", "Spans that wait for export at most");
pub(crate) const OTEL_BSP_MAX_EXPORT_BATCH_SIZE: Variable =
    Variable::of_sdk("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "Spans in one export at most");
pub(crate) const OTEL_BSP_EXPORT_TIMEOUT: Variable =
    Variable::of_sdk("OTEL_BSP_EXPORT_TIMEOUT", "30000", "Milliseconds for the export of a batch");
pub(crate) const OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: Variable =
    Variable::of_sdk("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "128", "Attributes of a span at most");
pub(crate) const OTEL_SPAN_EVENT_COUNT_LIMIT: Variable =
    Variable::of_sdk("OTEL_SPAN_EVENT_COUNT_LIMIT", "128", "Events of a span at most");
pub(crate) const OTEL_SPAN_LINK_COUNT_LIMIT: Variable =
    Variable::of_sdk("OTEL_SPAN_LINK_COUNT_LIMIT", "128", "Links of a span at most");

/// The variables of the export of metrics, which are read where there are metrics.
#[cfg(feature = "proxy")]
pub(crate) mod metrics {
    use super::Variable;

    pub(crate) const EXPORTER: Variable = Variable::of_otel(
        "OTEL_METRICS_EXPORTER",
        "",
        "otlp exports the metrics by OTLP/gRPC, none does not; unset: if their own endpoint is set; a list, of which the others are ignored",
    );
    pub(crate) const ENDPOINT: Variable = Variable::of_otel(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "",
        "Address of the OTLP collector of metrics, as for spans (http://localhost:4317 with OTEL_METRICS_EXPORTER=otlp)",
    )
    .or("OTEL_EXPORTER_OTLP_ENDPOINT");
    pub(crate) const CERTIFICATE: Variable = Variable::of_otel(
        "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
        "",
        "File of the certificates (PEM) that vouch for its https:// address",
    )
    .or("OTEL_EXPORTER_OTLP_CERTIFICATE");
    pub(crate) const CLIENT_CERTIFICATE: Variable = Variable::of_otel(
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
        "",
        "File of the certificate (PEM) that is shown to it; needs the key",
    )
    .or("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
    pub(crate) const CLIENT_KEY: Variable = Variable::of_otel(
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
        "",
        "File of the private key (PEM) of that certificate",
    )
    .or("OTEL_EXPORTER_OTLP_CLIENT_KEY");
    pub(crate) const PROTOCOL: Variable = Variable::of_otel(
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        "grpc",
        "grpc; any other value logs a warning, and gRPC is used for metrics",
    )
    .or("OTEL_EXPORTER_OTLP_PROTOCOL");
    pub(crate) const HEADERS: Variable = Variable::of_sdk(
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        "",
        "Headers for the collector of metrics: key=value,…",
    )
    .or("OTEL_EXPORTER_OTLP_HEADERS");
    pub(crate) const COMPRESSION: Variable = Variable::of_sdk(
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
        "",
        "gzip compresses the exported metrics",
    )
    .or("OTEL_EXPORTER_OTLP_COMPRESSION");
    pub(crate) const TIMEOUT: Variable = Variable::of_sdk(
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
        "10000",
        "Milliseconds for one export of metrics",
    )
    .or("OTEL_EXPORTER_OTLP_TIMEOUT");
    pub(crate) const TEMPORALITY: Variable = Variable::of_sdk(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "cumulative",
        "cumulative, delta or lowmemory",
    );
    pub(crate) const INTERVAL: Variable = Variable::of_sdk(
        "OTEL_METRIC_EXPORT_INTERVAL",
        "60000",
        "Milliseconds between two exports of metrics",
    );
}

/// All of them.
pub(crate) const ALL: &[Variable] = &[
    TELEMETRY,
    OTLP_ENDPOINT,
    OTLP_CERTIFICATE,
    OTLP_CLIENT_CERTIFICATE,
    OTLP_CLIENT_KEY,
    OTLP_PROTOCOL,
    TRACES_EXPORTER,
    SDK_DISABLED,
    OTLP_HEADERS,
    OTLP_COMPRESSION,
    OTLP_TIMEOUT,
    OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG,
    OTEL_BSP_SCHEDULE_DELAY,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_EXPORT_TIMEOUT,
    OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT,
    OTEL_SPAN_EVENT_COUNT_LIMIT,
    OTEL_SPAN_LINK_COUNT_LIMIT,
];
