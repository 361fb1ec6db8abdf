// SPDX-License-Identifier: Apache-2.0

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use proptest::prelude::*;

use super::*;
use crate::proxy::telemetry::{ClientFiles, DEFAULT_ENDPOINT};

const SOCKET: (&str, &str) = ("SPIFFE_ENDPOINT_SOCKET", "unix:///run/spire/sockets/agent.sock");

fn parse(set: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let set: BTreeMap<_, _> = [SOCKET].iter().chain(set).copied().collect();
    Config::parse(|name| set.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn g01_defaults_are_those_of_the_go_struct() {
    let config = parse(&[]).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(
        config,
        Config {
            name: "proxy".into(),
            service_name: "proxy".into(),
            connect_to: Address::Unix("/var/lib/networkservicemesh/nsm.io.sock".into()),
            dial_timeout: seconds(5),
            request_timeout: seconds(15),
            max_token_lifetime: seconds(24 * 3600),
            ipam_service: Address::Tcp("ipam-service:7777".into()),
            host: String::new(),
            network_service_name: "load-balancer".into(),
            trench: "default".into(),
            conduit: "load-balancer".into(),
            nsp_service: Address::Tcp("nsp-service-default.default:7778".into()),
            families: &Family::BOTH,
            log_level: LogLevel::Debug,
            mtu: 1500,
            grpc_keepalive_time: seconds(30),
            grpc_probe_rpc_timeout: seconds(1),
            grpc_max_backoff: seconds(5),
            ip_release_delay: seconds(20),
            bridge_ip_renew_interval: seconds(300),
            liveness: Some(liveness::Settings { interval: Duration::from_millis(150), probes: 6 }),
            snapshot_path: Some("/tmp/meridio-proxy.snapshot".into()),
            admin: Some(Address::Tcp("127.0.0.1:9090".into())),
            metrics: None,
            spiffe_endpoint_socket: SOCKET.1.into(),
            telemetry: None,
            metrics_export: None,
            settings: Vec::new(),
            warnings: Vec::new(),
        }
    );
}

#[test]
fn the_admin_listener_is_local_or_there_is_none() {
    let table = [
        ("127.0.0.1:9090", Some("tcp://127.0.0.1:9090")),
        ("tcp://127.8.0.1:1", Some("tcp://127.8.0.1:1")),
        ("[::1]:9090", Some("tcp://[::1]:9090")),
        ("unix:///run/admin.sock", Some("unix:///run/admin.sock")),
        ("", None),
        ("0.0.0.0:9090", None),
        ("10.0.0.1:9090", None),
        ("[::]:9090", None),
        ("localhost:9090", None),
        ("127.0.0.1", None),
        ("127.0.0.1:0", None),
        ("unix://", None),
        ("yes", None),
    ];
    for (value, expected) in table {
        let config = parse(&[("NSM_ADMIN_ADDRESS", value)]).unwrap();
        assert_eq!(config.admin.map(|admin| admin.to_string()).as_deref(), expected, "{value}");
        let warned = config.warnings.iter().any(|warning| warning.starts_with("NSM_ADMIN_ADDRESS"));
        assert_eq!(warned, expected.is_none() && !value.is_empty(), "{value}: {:?}", config.warnings);
    }
}

#[test]
fn metrics_are_served_to_other_pods_only_if_that_is_set() {
    // NSM_METRICS_ENABLED, NSM_METRICS_PORT, the port, warnings
    let table = [
        ("true", "2223", Some(2223), 0),
        ("true", "1", Some(1), 0),
        ("false", "2223", None, 0),
        ("yes", "2223", None, 1),
        ("true", "0", Some(2223), 1),
        ("true", "65536", Some(2223), 1),
        ("true", "http", Some(2223), 1),
        ("false", "", None, 1),
    ];
    for (enabled, port, expected, warnings) in table {
        let config = parse(&[("NSM_METRICS_ENABLED", enabled), ("NSM_METRICS_PORT", port)]).unwrap();
        assert_eq!((config.metrics, config.warnings.len()), (expected, warnings), "{enabled} {port}");
    }
}

#[test]
fn load_balancers_are_not_probed_if_that_is_switched_off() {
    assert_eq!(parse(&[("NSM_LIVENESS_CHECK_ENABLED", "false")]).unwrap().liveness, None);
}

#[test]
fn g01_every_variable_is_read_under_its_name() {
    let config = parse(&[
        ("NSM_NAME", "proxy-a-x7"),
        ("NSM_SERVICE_NAME", "proxy.a.t.ns"),
        ("NSM_CONNECT_TO", "tcp://[::1]:5001"),
        ("NSM_DIAL_TIMEOUT", "1s"),
        ("NSM_REQUEST_TIMEOUT", "2s"),
        ("NSM_MAX_TOKEN_LIFETIME", "10m"),
        ("NSM_IPAM_SERVICE", "ipam-service-t:7777"),
        ("NSM_HOST", "node-1.example"),
        ("NSM_NETWORK_SERVICE_NAME", "a.t.ns"),
        ("NSM_NAMESPACE", "ns"),
        ("NSM_TRENCH", "t"),
        ("NSM_CONDUIT", "a"),
        ("NSM_NSP_SERVICE_NAME", "nsp"),
        ("NSM_NSP_SERVICE_PORT", "1"),
        ("NSM_IP_FAMILY", "IPv6"),
        ("NSM_LOG_LEVEL", "TRACE"),
        ("NSM_MTU", "1280"),
        ("NSM_GRPC_KEEPALIVE_TIME", "13s"),
        ("NSM_GRPC_PROBE_RPC_TIMEOUT", "4s"),
        ("NSM_GRPC_MAX_BACKOFF", "6s"),
        ("NSM_IP_RELEASE_DELAY", "7s"),
        ("NSM_BRIDGE_IP_RENEW_INTERVAL", "8s"),
        ("NSM_LIVENESS_CHECK_ENABLED", "true"),
        ("NSM_LIVENESS_CHECK_INTERVAL", "50ms"),
        ("NSM_LIVENESS_CHECK_PROBES", "9"),
        ("NSM_SNAPSHOT_PATH", "/run/proxy/snapshot"),
        ("NSM_ADMIN_ADDRESS", "unix:///run/proxy/admin.sock"),
        ("NSM_METRICS_ENABLED", "true"),
        ("NSM_METRICS_PORT", "2224"),
        ("SPIFFE_ENDPOINT_SOCKET", "tcp://127.0.0.1:8081"),
        ("TELEMETRY", "true"),
    ])
    .unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(
        config,
        Config {
            name: "proxy-a-x7".into(),
            service_name: "proxy.a.t.ns".into(),
            connect_to: Address::Tcp("[::1]:5001".into()),
            dial_timeout: seconds(1),
            request_timeout: seconds(2),
            max_token_lifetime: seconds(600),
            ipam_service: Address::Tcp("ipam-service-t:7777".into()),
            host: "node-1.example".into(),
            network_service_name: "a.t.ns".into(),
            trench: "t".into(),
            conduit: "a".into(),
            nsp_service: Address::Tcp("nsp-t.ns:1".into()),
            families: &[Family::V6],
            log_level: LogLevel::Trace,
            mtu: 1280,
            grpc_keepalive_time: seconds(13),
            grpc_probe_rpc_timeout: seconds(4),
            grpc_max_backoff: seconds(6),
            ip_release_delay: seconds(7),
            bridge_ip_renew_interval: seconds(8),
            liveness: Some(liveness::Settings { interval: Duration::from_millis(50), probes: 9 }),
            snapshot_path: Some("/run/proxy/snapshot".into()),
            admin: Some(Address::Unix("/run/proxy/admin.sock".into())),
            metrics: Some(2224),
            spiffe_endpoint_socket: "tcp://127.0.0.1:8081".into(),
            telemetry: Some(Destination::at(DEFAULT_ENDPOINT)),
            metrics_export: None,
            settings: Vec::new(),
            warnings: Vec::new(),
        }
    );
}

#[test]
fn g01_the_unprefixed_name_counts_if_the_other_is_unset() {
    let unprefixed = [
        ("IP_FAMILY", "ipv4"),
        ("GRPC_KEEPALIVE_TIME", "10s"),
        ("GRPC_PROBE_RPC_TIMEOUT", "2s"),
        ("GRPC_MAX_BACKOFF", "3s"),
        ("IP_RELEASE_DELAY", "40s"),
        ("BRIDGE_IP_RENEW_INTERVAL", "5s"),
    ];
    let config = parse(&unprefixed).unwrap();
    let of = |c: &Config| {
        let durations = [
            c.grpc_keepalive_time,
            c.grpc_probe_rpc_timeout,
            c.grpc_max_backoff,
            c.ip_release_delay,
            c.bridge_ip_renew_interval,
        ];
        (c.families, durations.map(|duration| duration.as_secs()))
    };
    assert_eq!(of(&config), (&[Family::V4][..], [10, 2, 3, 40, 5]));
    let prefixed =
        unprefixed.map(|(name, _)| (format!("NSM_{name}"), if name == "IP_FAMILY" { "ipv6" } else { "60s" }));
    let prefixed = prefixed.iter().map(|(name, value)| (name.as_str(), *value));
    let both: Vec<_> = unprefixed.into_iter().chain(prefixed).collect();
    assert_eq!(of(&parse(&both).unwrap()), (&[Family::V6][..], [60; 5]));
    // Others have no second name.
    assert_eq!(parse(&[("MTU", "9000"), ("NAME", "other")]).unwrap(), parse(&[]).unwrap());
}

#[test]
fn g01_a_mistake_has_variable_value_and_accepted_values() {
    let long = "a".repeat(254);
    let huge = format!("unix:///{}", "a".repeat(2000));
    let table: &[(&str, &[&str], &str)] = &[
        ("NSM_NAME", &["", "a/b", "a b", ".", "..", "naïve", &long], "1 to 253 letters"),
        ("NSM_SERVICE_NAME", &["", "a\nb"], "1 to 253 letters"),
        (
            "NSM_CONNECT_TO",
            &["", "nsm.io.sock", "unix://", "unix://relative", "http://a:1", "tcp://a", "tcp://:1", &huge],
            "unix:///path",
        ),
        (
            "NSM_DIAL_TIMEOUT",
            &["", "5", "0", "-5s", "1d", "five", "1us", "8761h", "9223372036s"],
            "1ms to 8760h",
        ),
        ("NSM_REQUEST_TIMEOUT", &["15 s"], "Go duration"),
        ("NSM_MAX_TOKEN_LIFETIME", &["0s"], "Go duration"),
        (
            "NSM_IPAM_SERVICE",
            &["", "ipam", "ipam:", "ipam:0", "ipam:65536", ":7777", "a b:1", "[::1:7777", "::1:7777"],
            "host:port",
        ),
        ("NSM_HOST", &["node 1", "a/b"], "1 to 253 letters"),
        ("NSM_NETWORK_SERVICE_NAME", &[""], "1 to 253 letters"),
        ("NSM_NAMESPACE", &["a:b"], "1 to 253 letters"),
        ("NSM_TRENCH", &[""], "1 to 253 letters"),
        ("NSM_CONDUIT", &["a,b"], "1 to 253 letters"),
        ("NSM_NSP_SERVICE_NAME", &["http://nsp"], "1 to 253 letters"),
        ("NSM_NSP_SERVICE_PORT", &["", "0", "65536", "-1", "http", "7778.0"], "1 to 65535"),
        ("NSM_IP_FAMILY", &["", "ipv5", "dual-stack", "4"], "ipv4, ipv6 or dualstack"),
        ("IP_FAMILY", &["both"], "ipv4, ipv6 or dualstack"),
        ("NSM_MTU", &["", "1279", "65536", "-1", "1500.0", "jumbo"], "1280 to 65535"),
        ("NSM_GRPC_KEEPALIVE_TIME", &["x"], "Go duration"),
        ("GRPC_PROBE_RPC_TIMEOUT", &["x"], "Go duration"),
        ("NSM_GRPC_MAX_BACKOFF", &["x"], "Go duration"),
        ("NSM_IP_RELEASE_DELAY", &["-1ns", "x"], "0s to 8760h"),
        ("NSM_BRIDGE_IP_RENEW_INTERVAL", &["0"], "Go duration"),
        ("SPIFFE_ENDPOINT_SOCKET", &["", "/run/agent.sock"], "unix:///path"),
        ("NSM_LIVENESS_CHECK_ENABLED", &["", "yes", "2"], "true or false"),
        ("NSM_LIVENESS_CHECK_INTERVAL", &["", "150", "19ms", "11s", "x"], "20ms to 10s"),
        ("NSM_LIVENESS_CHECK_PROBES", &["", "1", "101", "-1", "six"], "2 to 100"),
        ("NSM_SNAPSHOT_PATH", &["snapshot", "./snapshot"], "absolute path"),
    ];
    let mut covered = BTreeSet::new();
    for (name, values, accepted) in table {
        covered.insert(*name);
        for value in *values {
            let mistakes = parse(&[(name, value)]).expect_err(&format!("{name}={value:?}")).0;
            assert_eq!(mistakes.len(), 1, "{name}={value:?}: {mistakes:?}");
            assert_eq!(mistakes[0].variable, *name);
            assert!(mistakes[0].accepted.contains(accepted), "{}", mistakes[0]);
            let cut: String = format!("{value:?}").trim_matches('"').chars().take(32).collect();
            assert!(mistakes[0].to_string().starts_with(&format!("{name}=\"{cut}")), "{}", mistakes[0]);
            assert!(mistakes[0].to_string().len() < 300);
        }
    }
    for variable in refusable() {
        let named = |name: &str| covered.contains(name);
        assert!(
            named(variable.name) || variable.alias.is_some_and(named),
            "{} has no bad value in the table",
            variable.name
        );
    }
}

/// Variables that have refused values. The others only cause warnings.
fn refusable() -> impl Iterator<Item = &'static Variable> {
    VARIABLES.iter().filter(|variable| variable.parsed && !variable.lenient)
}

#[test]
fn g01_all_mistakes_are_reported_at_once() {
    let mistakes = Config::parse(|_| Some("!".to_owned())).unwrap_err();
    let named: BTreeSet<_> = mistakes.0.iter().map(|mistake| mistake.variable).collect();
    assert_eq!(named, refusable().map(|variable| variable.name).collect());
    assert_eq!(mistakes.to_string().lines().count(), mistakes.0.len());
}

#[test]
fn the_workload_api_address_is_required() {
    let mistakes = Config::parse(|_| None).unwrap_err();
    assert_eq!(mistakes.0.len(), 1);
    assert_eq!(mistakes.0[0].variable, "SPIFFE_ENDPOINT_SOCKET");
}

#[test]
fn the_parser_reads_the_variables_of_the_table_and_no_others() {
    let asked = RefCell::new(BTreeSet::new());
    let _ = Config::parse(|name| {
        asked.borrow_mut().insert(name.to_owned());
        // The other variables are read only if spans and metrics are exported.
        let exported = [("TELEMETRY", "true"), ("OTEL_METRICS_EXPORTER", "otlp")];
        exported.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
    });
    let parsed = VARIABLES.iter().filter(|variable| variable.parsed);
    let expected = parsed.flat_map(|variable| [Some(variable.name), variable.alias]).flatten();
    assert_eq!(*asked.borrow(), expected.map(str::to_owned).collect());
}

#[test]
fn an_unknown_log_level_means_info_and_is_logged() {
    for (value, level) in [("TRACE", LogLevel::Trace), ("debug", LogLevel::Debug), ("INFO", LogLevel::Info)] {
        let config = parse(&[("NSM_LOG_LEVEL", value)]).unwrap();
        assert_eq!((config.log_level, config.warnings.len()), (level, 0), "{value}");
    }
    for value in ["", "WARNING", "verbose"] {
        let config = parse(&[("NSM_LOG_LEVEL", value)]).unwrap();
        assert_eq!(config.log_level, LogLevel::Info);
        assert!(config.warnings[0].contains("NSM_LOG_LEVEL") && config.warnings[0].contains(value));
    }
}

#[test]
fn a_release_delay_shorter_than_a_request_is_warned_of() {
    let config = parse(&[("IP_RELEASE_DELAY", "10s")]).unwrap();
    assert!(config.warnings[0].contains("NSM_IP_RELEASE_DELAY"), "{:?}", config.warnings);
}

#[test]
fn the_smallest_mtu_depends_on_the_family() {
    for (family, least) in [("ipv4", 576), ("ipv6", 1280), ("dualstack", 1280)] {
        let with = |mtu: u32| parse(&[("NSM_IP_FAMILY", family), ("NSM_MTU", &mtu.to_string())]);
        assert_eq!(with(least).unwrap().mtu, least);
        assert!(with(least - 1).is_err());
    }
}

#[test]
fn spans_are_exported_if_asked_for_or_if_an_endpoint_is_set() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317");
    let table: &[(&[(&str, &str)], bool)] = &[
        (&[], false),
        (&[("TELEMETRY", "true")], true),
        (&[("TELEMETRY", "1")], true),
        (&[("TELEMETRY", "")], false),
        (&[endpoint], true),
        (&[traces], true),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
        (&[endpoint, ("TELEMETRY", "false")], false),
        (&[endpoint, ("OTEL_SDK_DISABLED", "true")], false),
        (&[endpoint, ("OTEL_SDK_DISABLED", "false")], true),
        (&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], false),
        (&[endpoint, ("OTEL_TRACES_EXPORTER", "")], true),
    ];
    for (set, expected) in table {
        assert_eq!(parse(set).unwrap().telemetry.is_some(), *expected, "{set:?}");
    }
}

#[test]
fn a_variable_for_traces_wins_over_one_for_all_signals() {
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://general:4317");
    let of = |traces: &str| {
        let set = parse(&[general, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces)]).unwrap();
        set.telemetry.unwrap().endpoint
    };
    assert_eq!(of("http://traces:4317"), "http://traces:4317");
    assert_eq!(of(""), "https://general:4317");
}

#[test]
fn no_variable_of_telemetry_ends_the_start() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317");
    let on = Some(Destination::at(endpoint.1));
    let huge = "x".repeat(100_000);
    let table: &[(&str, &[&str], &Option<Destination>)] = &[
        ("TELEMETRY", &["yes", "on", &huge], &None),
        ("OTEL_SDK_DISABLED", &["yes", "1", &huge], &on),
        ("OTEL_TRACES_EXPORTER", &["console", "console,otlp", "otlp,zipkin", &huge], &on),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &["x", "grpc://a:1", "http://", ":4317", &huge], &None),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &["ca.pem", "./ca.pem"], &on),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", &["tls.crt", "/tls.crt"], &on),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &["tls.key", "/tls.key"], &on),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", &["http/protobuf", "x"], &on),
    ];
    for (name, values, expected) in table {
        for value in *values {
            let config = parse(&[endpoint, (name, value)]).unwrap();
            assert_eq!(config.telemetry, **expected, "{name}={value:.32}");
            let [warning] = config.warnings.as_slice() else { panic!("{name}: {:?}", config.warnings) };
            assert!(warning.starts_with(&format!("{name}=\"{value:.32}")), "{warning}");
            assert!(warning.len() < 300, "{warning}");
        }
    }
    let of_metrics = |name: &str| name.contains("_METRICS_");
    let lenient = VARIABLES.iter().filter(|variable| variable.lenient && !of_metrics(variable.name));
    for variable in lenient.filter(|variable| !variable.name.starts_with("NSM_")) {
        let covered = |name: &str| table.iter().any(|(covered, ..)| *covered == name);
        let covered = covered(variable.name) || variable.alias.is_some_and(covered);
        assert!(covered, "{} has no bad value in the table", variable.name);
    }
}

#[test]
fn metrics_are_exported_only_where_that_is_asked_for() {
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
    let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics:4317");
    let otlp = ("OTEL_METRICS_EXPORTER", "otlp");
    type Set<'a> = &'a [(&'a str, &'a str)];
    let table: &[(Set<'_>, Option<&str>)] = &[
        (&[], None),
        (&[general], None),
        (&[("TELEMETRY", "true")], None),
        (&[otlp], Some(DEFAULT_ENDPOINT)),
        (&[otlp, general], Some(general.1)),
        (&[own], Some(own.1)),
        (&[own, general], Some(own.1)),
        (&[own, ("OTEL_METRICS_EXPORTER", "none")], None),
        (&[own, ("OTEL_METRICS_EXPORTER", "")], Some(own.1)),
        (&[own, ("OTEL_SDK_DISABLED", "true")], None),
        (&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "")], None),
    ];
    for (set, expected) in table {
        let config = parse(set).unwrap();
        assert_eq!(config.metrics_export, expected.map(Destination::at), "{set:?}");
        assert_eq!(config.warnings, Vec::<String>::new(), "{set:?}");
    }
}

#[test]
fn no_variable_of_exported_metrics_ends_the_start() {
    let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a:4317");
    let on = Some(Destination::at(own.1));
    let huge = "x".repeat(100_000);
    let table: &[(&str, &[&str], &Option<Destination>)] = &[
        ("OTEL_METRICS_EXPORTER", &["prometheus", "console,otlp", &huge], &on),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &["x", "grpc://a:1", "http://", ":4317", &huge], &None),
        ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", &["ca.pem", "./ca.pem"], &on),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", &["tls.crt", "/tls.crt"], &on),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", &["tls.key", "/tls.key"], &on),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", &["http/protobuf", "x"], &on),
    ];
    for (name, values, expected) in table {
        for value in *values {
            let set: &[(&str, &str)] = &[own, (name, value)];
            let config = parse(&set[usize::from(*name == own.0)..]).unwrap();
            assert_eq!(config.metrics_export, **expected, "{name}={value:.32}");
            let [warning] = config.warnings.as_slice() else { panic!("{name}: {:?}", config.warnings) };
            assert!(warning.starts_with(&format!("{name}=\"{value:.32}")), "{warning}");
        }
    }
    for variable in VARIABLES.iter().filter(|of| of.lenient && of.name.contains("OTLP_METRICS_")) {
        assert!(table.iter().any(|(covered, ..)| *covered == variable.name), "{}", variable.name);
    }
}

#[test]
fn an_address_without_scheme_or_brackets_is_taken_for_http() {
    let table = [
        ("otel-collector.observability:4317", "http://otel-collector.observability:4317"),
        ("10.0.0.1:4317", "http://10.0.0.1:4317"),
        ("fd00::1:4317", "http://[fd00::1]:4317"),
        ("http://fd00::1:4317", "http://[fd00::1]:4317"),
        ("https://2001:db8::5/v1", "https://[2001:db8::5]/v1"),
        ("HTTP://a:4317", "http://a:4317"),
    ];
    for (value, taken) in table {
        let config = parse(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap();
        assert_eq!(config.telemetry, Some(Destination::at(taken)), "{value}");
        let warning = format!("OTEL_EXPORTER_OTLP_ENDPOINT={value:?} is taken for {taken}");
        assert_eq!(config.warnings, [warning]);
    }
    for value in ["http://a:4317", "https://a", "http://[fd00::1]:4317"] {
        let config = parse(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap();
        assert_eq!((config.telemetry, config.warnings), (Some(Destination::at(value)), Vec::new()));
    }
}

#[test]
fn without_an_address_that_makes_sense_spans_go_to_the_default() {
    let wrong = ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector");
    let config = parse(&[wrong, ("TELEMETRY", "TRUE")]).unwrap();
    assert_eq!(config.telemetry, Some(Destination::at(DEFAULT_ENDPOINT)));
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn where_nothing_is_exported_the_other_variables_are_not_judged() {
    let wrong = ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector");
    for off in [("TELEMETRY", "false"), ("OTEL_SDK_DISABLED", "True")] {
        let config = parse(&[wrong, off]).unwrap();
        assert_eq!((config.telemetry, config.warnings), (None, Vec::new()), "{off:?}");
    }
    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    assert!(parse(&[protocol]).unwrap().warnings.is_empty());
}

#[test]
fn a_client_certificate_comes_with_its_key() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317");
    let certificate = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/tls/tls.crt");
    let key = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/tls/tls.key");
    let destination = parse(&[endpoint, certificate, key]).unwrap().telemetry.unwrap();
    let files = ClientFiles { certificate: certificate.1.into(), key: key.1.into() };
    assert_eq!(destination, Destination { client: Some(files), ..Destination::at(endpoint.1) });
}

#[test]
fn credentials_in_an_address_are_not_repeated() {
    for value in ["ftp://user:secret@host:1", "user:secret@host:1"] {
        let warnings = parse(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap().warnings.join("\n");
        assert!(!warnings.contains("secret") && warnings.contains("…@host:1"), "{warnings}");
    }
}

#[test]
fn a_keepalive_shorter_than_grpcs_least_is_warned_of() {
    let config = parse(&[("GRPC_KEEPALIVE_TIME", "5s")]).unwrap();
    assert_eq!(config.grpc_keepalive_time, Duration::from_secs(10));
    assert!(config.warnings[0].contains("NSM_GRPC_KEEPALIVE_TIME"), "{:?}", config.warnings);
}

proptest! {
    #[test]
    fn no_value_panics_and_every_refusal_names_a_variable(value in "\\PC{0,80}") {
        if let Err(mistakes) = Config::parse(|_| Some(value.clone())) {
            prop_assert!(!mistakes.0.is_empty());
        }
    }
}
