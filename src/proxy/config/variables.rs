// SPDX-License-Identifier: Apache-2.0
//! Lists every environment variable that the proxy reads, with its default and meaning.
//!
//! The parser takes its defaults from this table, `proxy help variables` prints it, and a test
//! compares `docs/configuration.md` with it.

/// An environment variable of the proxy.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Name, as in the pod's manifest.
    pub name: &'static str,
    /// A second name that is used when the first is unset; Meridio's proxy reads some variables
    /// also without `NSM_`.
    pub alias: Option<&'static str>,
    /// Value of an unset variable, as text. Empty means none.
    pub default: &'static str,
    /// Its effect, in one line.
    pub meaning: &'static str,
    /// Whether the proxy parses it. The others are read by the OpenTelemetry SDK, by its
    /// specification.
    pub parsed: bool,
    /// Whether a value that is not accepted only causes a warning, and the default is used.
    pub lenient: bool,
    /// Whether an empty value counts as unset, as in OpenTelemetry's specification.
    pub empty_is_unset: bool,
}

impl Variable {
    const fn new(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { name, alias: None, default, meaning, parsed: true, lenient: false, empty_is_unset: false }
    }

    const fn or(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    const fn lenient(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { lenient: true, ..Self::new(name, default, meaning) }
    }

    const fn of_otel(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { empty_is_unset: true, ..Self::lenient(name, default, meaning) }
    }

    const fn of_sdk(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { parsed: false, ..Self::new(name, default, meaning) }
    }
}

macro_rules! variables {
    ($($constant:ident = $variable:expr;)+) => {
        $(pub(super) const $constant: Variable = $variable;)+
        /// Every variable, in the order of `--help`.
        pub const VARIABLES: &[Variable] = &[$($constant),+];
    };
}

variables! {
    NAME = Variable::new("NSM_NAME", "proxy", "Name of the pod: of the endpoint, in paths and in connection ids");
    SERVICE_NAME = Variable::new("NSM_SERVICE_NAME", "proxy", "Network service that targets request: proxy.<conduit>.<trench>.<namespace>");
    CONNECT_TO = Variable::new("NSM_CONNECT_TO", "unix:///var/lib/networkservicemesh/nsm.io.sock", "Address of nsmgr");
    DIAL_TIMEOUT = Variable::new("NSM_DIAL_TIMEOUT", "5s", "Time to dial nsmgr");
    REQUEST_TIMEOUT = Variable::new("NSM_REQUEST_TIMEOUT", "15s", "Time for one Request or Close");
    MAX_TOKEN_LIFETIME = Variable::new("NSM_MAX_TOKEN_LIFETIME", "24h", "Longest lifetime of tokens");
    IPAM_SERVICE = Variable::new("NSM_IPAM_SERVICE", "ipam-service:7777", "Address of IPAM, host:port");
    HOST = Variable::new("NSM_HOST", "", "Name of the node: IPAM's node and the label nodeName");
    NETWORK_SERVICE_NAME = Variable::new("NSM_NETWORK_SERVICE_NAME", "load-balancer", "Network service of the load balancers: <conduit>.<trench>.<namespace>");
    NAMESPACE = Variable::new("NSM_NAMESPACE", "default", "Namespace of the NSP service");
    TRENCH = Variable::new("NSM_TRENCH", "default", "Name of the trench");
    CONDUIT = Variable::new("NSM_CONDUIT", "load-balancer", "Name of the conduit");
    NSP_SERVICE_NAME = Variable::new("NSM_NSP_SERVICE_NAME", "nsp-service", "NSP is <this>-<trench>.<namespace>");
    NSP_SERVICE_PORT = Variable::new("NSM_NSP_SERVICE_PORT", "7778", "Port of NSP");
    IP_FAMILY = Variable::new("NSM_IP_FAMILY", "dualstack", "ipv4, ipv6 or dualstack").or("IP_FAMILY");
    LOG_LEVEL = Variable::lenient("NSM_LOG_LEVEL", "DEBUG", "TRACE, DEBUG or INFO; SIGUSR2 switches to TRACE, SIGUSR1 back");
    MTU = Variable::new("NSM_MTU", "1500", "MTU of every connection; at least 576, with IPv6 1280");
    GRPC_KEEPALIVE_TIME = Variable::new("NSM_GRPC_KEEPALIVE_TIME", "30s", "Keepalive interval towards IPAM and NSP, at least 10s; doubled whenever the server calls it too short").or("GRPC_KEEPALIVE_TIME");
    GRPC_PROBE_RPC_TIMEOUT = Variable::new("NSM_GRPC_PROBE_RPC_TIMEOUT", "1s", "Time for one probe of the own endpoint").or("GRPC_PROBE_RPC_TIMEOUT");
    GRPC_MAX_BACKOFF = Variable::new("NSM_GRPC_MAX_BACKOFF", "5s", "Longest pause between attempts to connect").or("GRPC_MAX_BACKOFF");
    IP_RELEASE_DELAY = Variable::new("NSM_IP_RELEASE_DELAY", "20s", "Time from the Close of a connection to the release of its addresses").or("IP_RELEASE_DELAY");
    BRIDGE_IP_RENEW_INTERVAL = Variable::new("NSM_BRIDGE_IP_RENEW_INTERVAL", "5m", "Interval at which the bridge's addresses are renewed in IPAM").or("BRIDGE_IP_RENEW_INTERVAL");
    LIVENESS_CHECK_ENABLED = Variable::new("NSM_LIVENESS_CHECK_ENABLED", "true", "true probes load balancers and withdraws those that do not answer, false does not");
    LIVENESS_CHECK_INTERVAL = Variable::new("NSM_LIVENESS_CHECK_INTERVAL", "150ms", "Time between two probes of a load balancer; 50ms finds a dead one three times as fast");
    LIVENESS_CHECK_PROBES = Variable::new("NSM_LIVENESS_CHECK_PROBES", "6", "Probes without an answer after which a load balancer is withdrawn");
    SNAPSHOT_PATH = Variable::new("NSM_SNAPSHOT_PATH", "/tmp/meridio-proxy.snapshot", "File that keeps leases, gateways and VIPs for a restart while their services are away; empty: none");
    ADMIN_ADDRESS = Variable::lenient("NSM_ADMIN_ADDRESS", "127.0.0.1:9090", "Address of the admin listener: a loopback address with a port, or unix:///path; empty: none");
    SPIFFE_ENDPOINT_SOCKET = Variable::new("SPIFFE_ENDPOINT_SOCKET", "", "Address of the SPIFFE Workload API; required");
    TELEMETRY = Variable::lenient("TELEMETRY", "", "true exports spans by OTLP/gRPC, false does not; unset: if an endpoint is set");
    OTLP_ENDPOINT = Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "Address of the OTLP collector: http://host:port, https://host:port, or host:port for http (http://localhost:4317 with TELEMETRY=true)").or("OTEL_EXPORTER_OTLP_ENDPOINT");
    OTLP_CERTIFICATE = Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "", "File of the certificates (PEM) that vouch for an https:// collector; unset: those of the machine, of which the image has none").or("OTEL_EXPORTER_OTLP_CERTIFICATE");
    OTLP_CLIENT_CERTIFICATE = Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "", "File of the certificate (PEM) that is shown to an https:// collector; needs the key").or("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
    OTLP_CLIENT_KEY = Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "", "File of its private key (PEM)").or("OTEL_EXPORTER_OTLP_CLIENT_KEY");
    OTLP_PROTOCOL = Variable::of_otel("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "grpc; any other value logs a warning, and gRPC is used").or("OTEL_EXPORTER_OTLP_PROTOCOL");
    TRACES_EXPORTER = Variable::of_otel("OTEL_TRACES_EXPORTER", "otlp", "otlp, or none to export nothing; a list, of which the others are ignored");
    SDK_DISABLED = Variable::of_otel("OTEL_SDK_DISABLED", "false", "true exports nothing, regardless of the other variables");
    OTLP_HEADERS = Variable::of_sdk("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "", "Headers for the collector: key=value,…").or("OTEL_EXPORTER_OTLP_HEADERS");
    OTLP_COMPRESSION = Variable::of_sdk("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "", "gzip compresses the exported spans").or("OTEL_EXPORTER_OTLP_COMPRESSION");
    OTLP_TIMEOUT = Variable::of_sdk("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10000", "Milliseconds for one export").or("OTEL_EXPORTER_OTLP_TIMEOUT");
    OTEL_SERVICE_NAME = Variable::of_sdk("OTEL_SERVICE_NAME", "meridio-proxy", "The resource's service.name");
    OTEL_RESOURCE_ATTRIBUTES = Variable::of_sdk("OTEL_RESOURCE_ATTRIBUTES", "", "Attributes of the resource: key=value,…");
    OTEL_TRACES_SAMPLER = Variable::of_sdk("OTEL_TRACES_SAMPLER", "parentbased_always_on", "Which traces are recorded");
    OTEL_TRACES_SAMPLER_ARG = Variable::of_sdk("OTEL_TRACES_SAMPLER_ARG", "", "Argument of the sampler");
    OTEL_BSP_SCHEDULE_DELAY = Variable::of_sdk("OTEL_BSP_SCHEDULE_DELAY", "5000", "Milliseconds between exports");
    OTEL_BSP_MAX_QUEUE_SIZE = Variable::of_sdk("OTEL_BSP_MAX_QUEUE_SIZE", "2048", "Spans that wait for export at most");
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE = Variable::of_sdk("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "Spans in one export at most");
    OTEL_BSP_EXPORT_TIMEOUT = Variable::of_sdk("OTEL_BSP_EXPORT_TIMEOUT", "30000", "Milliseconds for the export of a batch");
    OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT = Variable::of_sdk("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "128", "Attributes of a span at most");
    OTEL_SPAN_EVENT_COUNT_LIMIT = Variable::of_sdk("OTEL_SPAN_EVENT_COUNT_LIMIT", "128", "Events of a span at most");
    OTEL_SPAN_LINK_COUNT_LIMIT = Variable::of_sdk("OTEL_SPAN_LINK_COUNT_LIMIT", "128", "Links of a span at most");
}
