// SPDX-License-Identifier: Apache-2.0
//! Reads the destinations of exported spans and metrics, by OpenTelemetry's rules: an invalid value
//! causes a warning, and the default is used.
//!
//! A mistake here must not cost a node its traffic.

use std::{net::Ipv6Addr, path::PathBuf};

use url::Url;

use super::{
    reader::{ABSOLUTE, Get, Reader, absolute, without_user},
    variable::Variable,
    variables as var,
};
use crate::app::telemetry::{ClientFiles, DEFAULT_ENDPOINT, Destination};

/// The variables of the destination of one signal.
struct Signal {
    name: &'static str,
    endpoint: Variable,
    certificate: Variable,
    client_certificate: Variable,
    client_key: Variable,
    protocol: Variable,
}

const SPANS: Signal = Signal {
    name: "spans",
    endpoint: var::OTLP_ENDPOINT,
    certificate: var::OTLP_CERTIFICATE,
    client_certificate: var::OTLP_CLIENT_CERTIFICATE,
    client_key: var::OTLP_CLIENT_KEY,
    protocol: var::OTLP_PROTOCOL,
};

#[cfg(feature = "proxy")]
const METRICS: Signal = Signal {
    name: "metrics",
    endpoint: var::metrics::ENDPOINT,
    certificate: var::metrics::CERTIFICATE,
    client_certificate: var::metrics::CLIENT_CERTIFICATE,
    client_key: var::metrics::CLIENT_KEY,
    protocol: var::metrics::PROTOCOL,
};

/// The destination of spans, if they are exported: TELEMETRY decides; if it is unset, a set
/// endpoint does. If nothing is exported in any case, the other variables are not checked.
pub(crate) fn destination(r: &mut Reader<impl Get>) -> Option<Destination> {
    let wanted = r.lenient(var::TELEMETRY, "true or false", "nothing is exported", |text| match text {
        "" => Some(None),
        "1" | "t" | "T" => Some(Some(true)),
        "0" | "f" | "F" => Some(Some(false)),
        text => boolean(text).map(Some),
    });
    let wanted = wanted.unwrap_or(Some(false));
    let disabled = r.lenient(var::SDK_DISABLED, "true or false", "false is used", boolean);
    if wanted == Some(false) || disabled == Some(true) {
        return None;
    }
    let endpoint = endpoint(r, SPANS.endpoint);
    let on = wanted.unwrap_or(endpoint.is_some()) && is_exporter_otlp(r, var::TRACES_EXPORTER);
    on.then(|| SPANS.destination(r, endpoint))
}

/// The destination of metrics, if they are exported: if OTEL_METRICS_EXPORTER lists otlp, or if it
/// is unset and the metrics' own endpoint is set. An endpoint of all signals does not suffice,
/// because many collectors take spans alone.
#[cfg(feature = "proxy")]
pub(crate) fn metrics_destination(r: &mut Reader<impl Get>) -> Option<Destination> {
    let (_, exporters) = r.raw(var::metrics::EXPORTER);
    let (set, address) = r.raw(METRICS.endpoint);
    let own = set == METRICS.endpoint.name && !address.is_empty();
    let asked = !exporters.is_empty() || own;
    let disabled = r.raw(var::SDK_DISABLED).1.eq_ignore_ascii_case("true");
    if !asked || disabled || !is_exporter_otlp(r, var::metrics::EXPORTER) {
        return None;
    }
    let endpoint = endpoint(r, METRICS.endpoint);
    let listed = exporters.split(',').any(|name| name.trim() == "otlp");
    (listed || endpoint.is_some()).then(|| METRICS.destination(r, endpoint))
}

impl Signal {
    fn destination(&self, r: &mut Reader<impl Get>, endpoint: Option<String>) -> Destination {
        if r.raw(self.protocol).1 != "grpc" {
            r.warn(self.protocol, format_args!("is not grpc; {} are exported by gRPC", self.name));
        }
        Destination {
            endpoint: endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            certificate: file(r, self.certificate),
            client: client_files(r, self),
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    (is("true") || is("false")).then(|| is("true"))
}

/// The exporters are a list. Those that the exporter does not support are ignored.
fn is_exporter_otlp(r: &mut Reader<impl Get>, exporters: Variable) -> bool {
    let (_, list) = r.raw(exporters);
    let (known, unknown): (Vec<_>, Vec<_>) =
        list.split(',').map(str::trim).partition(|name| ["otlp", "none", ""].contains(name));
    if !unknown.is_empty() {
        r.warn(exporters, "names an exporter that is not accepted (accepted: otlp, none); it is ignored");
    }
    known.contains(&"otlp") || !known.contains(&"none")
}

/// The address of the collector; `None` if the variable is empty or invalid.
fn endpoint(r: &mut Reader<impl Get>, variable: Variable) -> Option<String> {
    let accepted = "http://host:port, https://host:port or host:port";
    let found = r.lenient(variable, accepted, "it is ignored", |text| match text {
        "" => Some(None),
        text => url(text).map(Some),
    });
    let endpoint = found.flatten()?;
    if endpoint != r.raw(variable).1 {
        r.warn(variable, format_args!("is taken for {}", without_user(&endpoint)));
    }
    Some(endpoint)
}

/// `host:port` means http, and an IPv6 address needs no brackets.
fn url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = bracketed(authority).unwrap_or_else(|| authority.to_owned());
    let whole = format!("{scheme}://{authority}{path}");
    let url = Url::parse(&whole).ok()?;
    let given = text.contains("://") || authority.rsplit_once(':').is_some_and(|(_, port)| is_port(port));
    (matches!(url.scheme(), "http" | "https") && url.has_host() && given).then_some(whole)
}

/// An IPv6 address with or without a port, in brackets. An ambiguous text is an address with a
/// port.
fn bracketed(authority: &str) -> Option<String> {
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    match authority.rsplit_once(':') {
        Some((host, port)) if is_v6(host) && is_port(port) => Some(format!("[{host}]:{port}")),
        _ => is_v6(authority).then(|| format!("[{authority}]")),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The absolute path of a file; `None` if the variable is empty.
fn file(r: &mut Reader<impl Get>, variable: Variable) -> Option<PathBuf> {
    r.lenient(variable, ABSOLUTE, "it is ignored", absolute).flatten()
}

/// A certificate and its key; one without the other cannot be used.
fn client_files(r: &mut Reader<impl Get>, signal: &Signal) -> Option<ClientFiles> {
    let certificate = file(r, signal.client_certificate);
    match (certificate, file(r, signal.client_key)) {
        (Some(certificate), Some(key)) => Some(ClientFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            r.warn(signal.client_certificate, "is set without its key; no certificate is shown");
            None
        }
        (None, Some(_)) => {
            r.warn(signal.client_key, "is set without its certificate; no certificate is shown");
            None
        }
    }
}
