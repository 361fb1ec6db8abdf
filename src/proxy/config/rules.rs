// SPDX-License-Identifier: Apache-2.0
//! Say for each kind of variable which values are accepted and what they mean.

use super::{
    LogLevel,
    reader::{Get, Reader},
    variables::{self as var, Variable},
};
use crate::{api::Family, transport::Target};

/// Where a peer listens.
pub(super) fn target(r: &mut Reader<impl Get>, variable: Variable) -> Target {
    r.value_or(variable, "unix:///path or tcp://host:port", nowhere, |text| text.parse().ok())
}

/// The text of a target, for a library that parses it itself.
pub(super) fn target_text(r: &mut Reader<impl Get>, variable: Variable) -> String {
    r.value(variable, "unix:///path or tcp://ip:port", |text| {
        let schemed = text.starts_with("unix:") || text.starts_with("tcp:");
        (schemed && text.parse::<Target>().is_ok()).then(|| text.to_owned())
    })
}

/// `host:port`.
pub(super) fn service(r: &mut Reader<impl Get>, variable: Variable) -> Target {
    r.value_or(variable, "host:port", nowhere, |text| {
        text.parse().ok().filter(|target| matches!(target, Target::Tcp(_)))
    })
}

fn nowhere() -> Target {
    Target::Tcp(String::new())
}

/// A name, or empty for unknown.
pub(super) fn node(r: &mut Reader<impl Get>, variable: Variable) -> String {
    if r.raw(variable).1.is_empty() { String::new() } else { r.name(variable) }
}

/// `<service>-<trench>.<namespace>:<port>`. The trench is checked where it is read itself.
pub(super) fn nsp_service(r: &mut Reader<impl Get>) -> Target {
    let (name, namespace) = (r.name(var::NSP_SERVICE_NAME), r.name(var::NAMESPACE));
    let port = r
        .value(var::NSP_SERVICE_PORT, "1 to 65535", |text| text.parse::<u16>().ok().filter(|port| *port > 0));
    Target::Tcp(format!("{name}-{}.{namespace}:{port}", r.raw(var::TRENCH).1))
}

/// Enabled families, IPv4 first.
pub(super) fn families(r: &mut Reader<impl Get>, variable: Variable) -> &'static [Family] {
    r.value(variable, "ipv4, ipv6 or dualstack", |text| {
        Some(match text.to_ascii_lowercase().as_str() {
            "ipv4" => &[Family::V4][..],
            "ipv6" => &[Family::V6][..],
            "dualstack" => &Family::BOTH[..],
            _ => return None,
        })
    })
}

/// Unknown levels mean INFO, as in Meridio, but are not passed over in silence.
pub(super) fn log_level(r: &Reader<impl Get>, variable: Variable, warnings: &mut Vec<String>) -> LogLevel {
    let (name, value) = r.raw(variable);
    match value.to_ascii_uppercase().as_str() {
        "TRACE" => LogLevel::Trace,
        "DEBUG" => LogLevel::Debug,
        "INFO" => LogLevel::Info,
        _ => {
            let value: String = value.chars().take(16).collect();
            warnings.push(format!("{name}={value:?} is not TRACE, DEBUG or INFO; INFO is used"));
            LogLevel::Info
        }
    }
}

/// The smallest MTU depends on the families: every IPv6 link carries 1280 bytes, every IPv4 host 576.
pub(super) fn mtu(r: &mut Reader<impl Get>, variable: Variable, families: &[Family]) -> u32 {
    let least = if families == [Family::V4] { 576 } else { 1280 };
    r.value(variable, format!("{least} to 65535"), |text| {
        text.parse().ok().filter(|mtu| (least..=65535).contains(mtu))
    })
}

/// Whether spans are exported: TELEMETRY decides; left open, a set endpoint does.
pub(super) fn telemetry(r: &mut Reader<impl Get>) -> bool {
    let (wanted, disabled) = (r.boolean(var::TELEMETRY), r.boolean(var::SDK_DISABLED));
    let (general, traces) =
        (otlp_endpoint(r, var::OTLP_ENDPOINT), otlp_endpoint(r, var::OTLP_TRACES_ENDPOINT));
    wanted.unwrap_or(general || traces) && disabled != Some(true)
}

/// Whether an endpoint is set. The SDK reads its value itself; TLS to the collector is not built in.
fn otlp_endpoint(r: &mut Reader<impl Get>, variable: Variable) -> bool {
    r.value(variable, "http://host:port", |text| {
        if text.is_empty() {
            return Some(false);
        }
        let url = url::Url::parse(text).ok()?;
        (url.scheme() == "http" && url.has_host()).then_some(true)
    })
}
