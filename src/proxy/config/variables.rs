// SPDX-License-Identifier: Apache-2.0
//! Lists every environment variable that the proxy reads, with its default and meaning.
//!
//! The parser takes its defaults from this table, `proxy help variables` prints it, and a test
//! compares `docs/configuration.md` with it.

use crate::app::config::{Variable, variables as app};

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
    METRICS_ENABLED = Variable::lenient("NSM_METRICS_ENABLED", "false", "true serves /metrics to other pods, on NSM_METRICS_PORT of every address; false on the admin listener alone");
    METRICS_PORT = Variable::lenient("NSM_METRICS_PORT", "2223", "Port of /metrics for other pods");
    SPIFFE_ENDPOINT_SOCKET = Variable::new("SPIFFE_ENDPOINT_SOCKET", "", "Address of the SPIFFE Workload API; required");
    TELEMETRY = app::TELEMETRY;
    OTLP_ENDPOINT = app::OTLP_ENDPOINT;
    OTLP_CERTIFICATE = app::OTLP_CERTIFICATE;
    OTLP_CLIENT_CERTIFICATE = app::OTLP_CLIENT_CERTIFICATE;
    OTLP_CLIENT_KEY = app::OTLP_CLIENT_KEY;
    OTLP_PROTOCOL = app::OTLP_PROTOCOL;
    TRACES_EXPORTER = app::TRACES_EXPORTER;
    SDK_DISABLED = app::SDK_DISABLED;
    OTLP_HEADERS = app::OTLP_HEADERS;
    OTLP_COMPRESSION = app::OTLP_COMPRESSION;
    OTLP_TIMEOUT = app::OTLP_TIMEOUT;
    OTEL_SERVICE_NAME = Variable::of_sdk("OTEL_SERVICE_NAME", "meridio-proxy", "The resource's service.name");
    OTEL_RESOURCE_ATTRIBUTES = app::OTEL_RESOURCE_ATTRIBUTES;
    OTEL_TRACES_SAMPLER = app::OTEL_TRACES_SAMPLER;
    OTEL_TRACES_SAMPLER_ARG = app::OTEL_TRACES_SAMPLER_ARG;
    OTEL_BSP_SCHEDULE_DELAY = app::OTEL_BSP_SCHEDULE_DELAY;
    OTEL_BSP_MAX_QUEUE_SIZE = app::OTEL_BSP_MAX_QUEUE_SIZE;
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE = app::OTEL_BSP_MAX_EXPORT_BATCH_SIZE;
    OTEL_BSP_EXPORT_TIMEOUT = app::OTEL_BSP_EXPORT_TIMEOUT;
    OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT = app::OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT;
    OTEL_SPAN_EVENT_COUNT_LIMIT = app::OTEL_SPAN_EVENT_COUNT_LIMIT;
    OTEL_SPAN_LINK_COUNT_LIMIT = app::OTEL_SPAN_LINK_COUNT_LIMIT;
    METRICS_EXPORTER = app::metrics::EXPORTER;
    METRICS_ENDPOINT = app::metrics::ENDPOINT;
    METRICS_CERTIFICATE = app::metrics::CERTIFICATE;
    METRICS_CLIENT_CERTIFICATE = app::metrics::CLIENT_CERTIFICATE;
    METRICS_CLIENT_KEY = app::metrics::CLIENT_KEY;
    METRICS_PROTOCOL = app::metrics::PROTOCOL;
    METRICS_HEADERS = app::metrics::HEADERS;
    METRICS_COMPRESSION = app::metrics::COMPRESSION;
    METRICS_TIMEOUT = app::metrics::TIMEOUT;
    METRICS_TEMPORALITY = app::metrics::TEMPORALITY;
    METRICS_INTERVAL = app::metrics::INTERVAL;
}
