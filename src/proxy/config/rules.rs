// SPDX-License-Identifier: Apache-2.0
//! Defines the accepted values of each kind of variable and their meaning.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{LogLevel, variables as var};
use crate::{
    api::Family,
    app::config::{ABSOLUTE, Get, Reader, Variable, absolute, parse_duration},
    kernel::liveness,
    transport::Address,
};

/// The address of a peer.
pub(super) fn target(r: &mut Reader<impl Get>, variable: Variable) -> Address {
    r.value_or(variable, "unix:///path or tcp://host:port", nowhere, |text| text.parse().ok())
}

/// The text of an address, for a library that parses it itself.
pub(super) fn target_text(r: &mut Reader<impl Get>, variable: Variable) -> String {
    r.value(variable, "unix:///path or tcp://ip:port", |text| {
        let schemed = text.starts_with("unix:") || text.starts_with("tcp:");
        (schemed && text.parse::<Address>().is_ok()).then(|| text.to_owned())
    })
}

/// `host:port`.
pub(super) fn service(r: &mut Reader<impl Get>, variable: Variable) -> Address {
    r.value_or(variable, "host:port", nowhere, |text| {
        text.parse().ok().filter(|target| matches!(target, Address::Tcp(_)))
    })
}

fn nowhere() -> Address {
    Address::Tcp(String::new())
}

/// A name; empty if unknown.
pub(super) fn node(r: &mut Reader<impl Get>, variable: Variable) -> String {
    if r.raw(variable).1.is_empty() { String::new() } else { r.name(variable) }
}

/// `<service>-<trench>.<namespace>:<port>`. The trench is checked where it is read itself.
pub(super) fn nsp_service(r: &mut Reader<impl Get>) -> Address {
    let name = r.name(var::NSP_SERVICE_NAME);
    let namespace = r.name(var::NAMESPACE);
    let port = r
        .value(var::NSP_SERVICE_PORT, "1 to 65535", |text| text.parse::<u16>().ok().filter(|port| *port > 0));
    Address::Tcp(format!("{name}-{}.{namespace}:{port}", r.raw(var::TRENCH).1))
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

/// As in Meridio, an unknown level means INFO; here it also causes a warning.
pub(super) fn log_level(r: &mut Reader<impl Get>, variable: Variable) -> LogLevel {
    let level = r.lenient(variable, "TRACE, DEBUG or INFO", "INFO is used", LogLevel::named);
    level.unwrap_or(LogLevel::Info)
}

/// The smallest MTU depends on the families: every IPv6 link carries 1280 bytes, every IPv4 host
/// 576.
pub(super) fn mtu(r: &mut Reader<impl Get>, variable: Variable, families: &[Family]) -> u32 {
    let least = if families == [Family::V4] { 576 } else { 1280 };
    r.value(variable, format!("{least} to 65535"), |text| {
        text.parse().ok().filter(|mtu| (least..=65535).contains(mtu))
    })
}

/// The settings of the load balancer probes. They are checked even if probes are disabled.
pub(super) fn liveness(r: &mut Reader<impl Get>) -> Option<liveness::Settings> {
    let enabled: bool = r.value(var::LIVENESS_CHECK_ENABLED, "true or false", |text| text.parse().ok());
    let interval =
        r.value(var::LIVENESS_CHECK_INTERVAL, "a Go duration such as 150ms, 20ms to 10s", |text| {
            let nanos = u64::try_from(parse_duration(text).ok()?).ok()?;
            let range = Duration::from_millis(20)..=Duration::from_secs(10);
            Some(Duration::from_nanos(nanos)).filter(|interval| range.contains(interval))
        });
    let probes = r.value(var::LIVENESS_CHECK_PROBES, "2 to 100", |text| {
        text.parse().ok().filter(|probes| (2..=100).contains(probes))
    });
    enabled.then_some(liveness::Settings { interval, probes })
}

/// The address of the admin listener; `None` if the variable is empty. It is not reachable from
/// other pods. A mistake must not cost a node its traffic.
pub(super) fn admin(r: &mut Reader<impl Get>, variable: Variable) -> Option<Address> {
    let accepted = "127.0.0.1:port, [::1]:port, unix:///path, or empty";
    let instead = "there is no admin listener";
    let admin = r.lenient(variable, accepted, instead, |text| match text {
        "" => Some(None),
        text => local(text).map(Some),
    });
    admin.flatten()
}

/// The port of the metrics for other pods; `None` if they are not served there. The port is checked
/// even so.
pub(super) fn metrics(r: &mut Reader<impl Get>) -> Option<u16> {
    let instead = "metrics are not served to other pods";
    let enabled = r.lenient(var::METRICS_ENABLED, "true or false", instead, |text| text.parse().ok());
    let port = r.lenient(var::METRICS_PORT, "1 to 65535", "2223 is used", |text| {
        text.parse().ok().filter(|port| *port > 0)
    });
    enabled.unwrap_or(false).then(|| port.unwrap_or(2223))
}

/// A unix socket, or a port of a loopback address.
fn local(text: &str) -> Option<Address> {
    let target = text.parse().ok()?;
    let local = match &target {
        Address::Unix(_) => true,
        Address::Tcp(address) => {
            address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
        }
    };
    local.then_some(target)
}

/// The absolute path of a file; `None` if the variable is empty.
pub(super) fn file(r: &mut Reader<impl Get>, variable: Variable) -> Option<PathBuf> {
    r.value(variable, ABSOLUTE, absolute)
}
