// SPDX-License-Identifier: Apache-2.0

//! The variables of every program.

use std::time::Duration;

use crate::{
    app::{
        config::{Env, Variable, destination, variables},
        log::LogLevel,
        telemetry::Destination,
    },
    transport::Address,
};

const NAME: Variable = Variable::new("NSM_NAME", "app", "Name of the pod, in paths and in the registry");
const CONNECT_TO: Variable =
    Variable::new("NSM_CONNECT_TO", "unix:///var/lib/networkservicemesh/nsm.io.sock", "Address of nsmgr");
const MAX_TOKEN_LIFETIME: Variable =
    Variable::new("NSM_MAX_TOKEN_LIFETIME", "10m", "Longest lifetime of tokens");
const LOG_LEVEL: Variable = Variable::lenient(
    "NSM_LOG_LEVEL",
    "INFO",
    "TRACE, DEBUG or INFO; SIGUSR2 switches to TRACE, SIGUSR1 back",
);
const AGENT: Variable =
    Variable::new("SPIFFE_ENDPOINT_SOCKET", "", "Address of the SPIFFE Workload API; required");

/// The values.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) nsmgr: Address,
    pub(crate) token_lifetime: Duration,
    pub(crate) log_level: LogLevel,
    pub(crate) agent: String,
    pub(crate) telemetry: Option<Destination>,
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    pub(crate) fn read(env: &mut Env) -> Option<Self> {
        let name = env.name(NAME);
        let nsmgr = env.parsed(CONNECT_TO, "unix:///path or tcp://host:port");
        let token_lifetime = env.duration(MAX_TOKEN_LIFETIME);
        let agent = env.value(AGENT, "unix:///path or tcp://ip:port", |text| {
            let schemed = text.starts_with("unix:") || text.starts_with("tcp:");
            (schemed && text.parse::<Address>().is_ok()).then(|| text.to_owned())
        });
        let reader = env.reader(&[LOG_LEVEL]);
        let log_level = reader.lenient(LOG_LEVEL, "TRACE, DEBUG or INFO", "INFO is used", LogLevel::named);
        let reader = env.reader(variables::ALL);
        let telemetry = destination(reader);
        let warnings = reader.take_warnings();
        Some(Self {
            name: name?,
            nsmgr: nsmgr?,
            token_lifetime: token_lifetime?,
            log_level: log_level.unwrap_or(LogLevel::Info),
            agent: agent?,
            telemetry,
            warnings,
        })
    }
}
