// SPDX-License-Identifier: Apache-2.0
//! Parses environment variables into a typed configuration, or into a list of all mistakes.
//!
//! The variables, their defaults, their names without `NSM_` and Go's duration syntax are those of
//! Meridio's proxy, so an existing manifest works unchanged. Differences: an unknown
//! `NSM_IP_FAMILY` is a mistake (in Meridio it silently means dualstack), and all mistakes are
//! reported at once. The environment and the arguments of the process are read only here.

mod rules;
mod setting;
mod variables;

use std::{path::PathBuf, time::Duration};

use self::variables as var;
pub use self::{setting::Setting, variables::VARIABLES};
pub use crate::app::{
    config::{InvalidDuration, Mistake, Mistakes, Variable, parse_duration},
    log::LogLevel,
};
use crate::{
    api::Family,
    app::{
        config::{self, Reader},
        telemetry::Destination,
    },
    kernel::liveness,
    transport::Address,
};

/// Minimum keepalive interval of a gRPC client.
const LEAST_KEEPALIVE: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The arguments of the process, without its name.
pub fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned())
}

/// The variables of the environment.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
}

/// The address of the admin listener; `None` if the variable is empty or not accepted.
pub(crate) fn admin_address() -> Option<Address> {
    rules::admin(&mut Reader::new(variable), var::ADMIN_ADDRESS)
}

/// A variable of the environment.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The name by which the program was started.
pub fn program() -> String {
    std::env::args_os().next().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The configuration of one proxy: one conduit of one trench on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the pod and of the endpoint.
    pub name: String,
    /// Network service that targets request.
    pub service_name: String,
    /// Address of nsmgr.
    pub connect_to: Address,
    /// Timeout of dialing nsmgr.
    pub dial_timeout: Duration,
    /// Timeout of one Request or Close.
    pub request_timeout: Duration,
    /// Maximum lifetime of tokens.
    pub max_token_lifetime: Duration,
    /// Address of IPAM.
    pub ipam_service: Address,
    /// Name of the node; empty if unknown.
    pub host: String,
    /// Network service of the load balancers.
    pub network_service_name: String,
    /// Name of the trench.
    pub trench: String,
    /// Name of the conduit.
    pub conduit: String,
    /// Address of NSP: `<service>-<trench>.<namespace>:<port>`.
    pub nsp_service: Address,
    /// Enabled families, IPv4 first. Never empty.
    pub families: &'static [Family],
    /// Level of the log.
    pub log_level: LogLevel,
    /// MTU of every connection, in bytes.
    pub mtu: u32,
    /// Keepalive interval of the channels to IPAM and NSP.
    pub grpc_keepalive_time: Duration,
    /// Timeout of one probe of the own endpoint.
    pub grpc_probe_rpc_timeout: Duration,
    /// Longest pause between attempts to connect.
    pub grpc_max_backoff: Duration,
    /// Time from the Close of a connection to the release of its addresses.
    pub ip_release_delay: Duration,
    /// Interval at which the bridge's addresses are renewed.
    pub bridge_ip_renew_interval: Duration,
    /// How load balancers are probed; `None` if they are not.
    pub liveness: Option<liveness::Settings>,
    /// File of the snapshot; `None` disables it.
    pub snapshot_path: Option<PathBuf>,
    /// Address of the admin listener; `None` disables it.
    pub admin: Option<Address>,
    /// Port of the metrics for other pods; `None` disables it.
    pub metrics: Option<u16>,
    /// Address of the SPIFFE Workload API: `unix:///path` or `tcp://ip:port`.
    pub spiffe_endpoint_socket: String,
    /// Destination of exported spans; `None` disables the export.
    pub telemetry: Option<Destination>,
    /// Destination of exported metrics; `None` disables the export.
    pub metrics_export: Option<Destination>,
    /// Every variable of the environment with its value, without secrets.
    pub settings: Vec<Setting>,
    /// Warnings about accepted values, logged at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Parses the environment of the process.
    ///
    /// # Errors
    /// Every variable that is not accepted.
    pub fn from_environment() -> Result<Self, Mistakes> {
        let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Ok(Self { settings: Setting::all(get), ..Self::parse(get)? })
    }

    /// Parses variables that `get` looks up by name; `None` means unset.
    ///
    /// # Errors
    /// Every variable that is not accepted.
    pub fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut r = Reader::new(get);
        let mut config = Self {
            name: r.name(var::NAME),
            service_name: r.name(var::SERVICE_NAME),
            connect_to: rules::target(&mut r, var::CONNECT_TO),
            dial_timeout: r.duration(var::DIAL_TIMEOUT, MILLISECOND),
            request_timeout: r.duration(var::REQUEST_TIMEOUT, MILLISECOND),
            max_token_lifetime: r.duration(var::MAX_TOKEN_LIFETIME, MILLISECOND),
            ipam_service: rules::service(&mut r, var::IPAM_SERVICE),
            host: rules::node(&mut r, var::HOST),
            network_service_name: r.name(var::NETWORK_SERVICE_NAME),
            trench: r.name(var::TRENCH),
            conduit: r.name(var::CONDUIT),
            nsp_service: rules::nsp_service(&mut r),
            families: rules::families(&mut r, var::IP_FAMILY),
            log_level: LogLevel::Info,
            mtu: 0,
            grpc_keepalive_time: r.duration(var::GRPC_KEEPALIVE_TIME, MILLISECOND),
            grpc_probe_rpc_timeout: r.duration(var::GRPC_PROBE_RPC_TIMEOUT, MILLISECOND),
            grpc_max_backoff: r.duration(var::GRPC_MAX_BACKOFF, MILLISECOND),
            ip_release_delay: r.duration(var::IP_RELEASE_DELAY, Duration::ZERO),
            bridge_ip_renew_interval: r.duration(var::BRIDGE_IP_RENEW_INTERVAL, MILLISECOND),
            liveness: rules::liveness(&mut r),
            snapshot_path: rules::file(&mut r, var::SNAPSHOT_PATH),
            admin: rules::admin(&mut r, var::ADMIN_ADDRESS),
            metrics: rules::metrics(&mut r),
            spiffe_endpoint_socket: rules::target_text(&mut r, var::SPIFFE_ENDPOINT_SOCKET),
            telemetry: None,
            metrics_export: None,
            settings: Vec::new(),
            warnings: Vec::new(),
        };
        config.telemetry = config::destination(&mut r);
        config.metrics_export = config::metrics_destination(&mut r);
        config.mtu = rules::mtu(&mut r, var::MTU, config.families);
        config.log_level = rules::log_level(&mut r, var::LOG_LEVEL);
        config.warnings = r.take_warnings();
        let mut config = r.finish(config)?;
        config.keep_alive_calmly();
        config.warn_of_early_release();
        Ok(config)
    }

    /// gRPC servers treat more frequent pings as an attack, and gRPC clients do not send them.
    fn keep_alive_calmly(&mut self) {
        let asked = self.grpc_keepalive_time;
        if asked < LEAST_KEEPALIVE {
            self.grpc_keepalive_time = LEAST_KEEPALIVE;
            self.warnings.push(format!(
                "NSM_GRPC_KEEPALIVE_TIME ({asked:?}) is too short, {LEAST_KEEPALIVE:?} is used"
            ));
        }
    }

    fn warn_of_early_release(&mut self) {
        let delay = self.ip_release_delay;
        let timeout = self.request_timeout;
        if delay <= timeout {
            let advice = "should be longer than NSM_REQUEST_TIMEOUT";
            self.warnings.push(format!("NSM_IP_RELEASE_DELAY ({delay:?}) {advice} ({timeout:?})"));
        }
    }
}

#[cfg(test)]
mod tests;
