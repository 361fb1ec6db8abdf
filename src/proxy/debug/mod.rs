// SPDX-License-Identifier: Apache-2.0

//! Prints the output of `proxy --debug`: one line of JSON with the state of the network, in the
//! format v0.0.1 of Meridio's debug export.
//!
//! Unlike the Go proxy's output it has the routes of every table, the source of every rule, the
//! index of a route's interface and the names of neighbour states. Values of variables whose names
//! hint at secrets are masked. `conntrack-table` and `processes` are `null`, as there.

mod system;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use self::system::System;
use super::config;
use crate::kernel::{self, DumpedNeighbour, DumpedRoute, DumpedRule, Interface, Refusal};

/// Version of the format.
const FORMAT: &str = "v0.0.1";
/// Parts of the names of secret variables.
const SECRET: [&str; 7] = ["SECRET", "PASSWORD", "PASSWD", "TOKEN", "KEY", "CREDENTIAL", "HEADERS"];
/// Replaces a secret.
const MASK: &str = "***";

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Export {
    version: &'static str,
    meridio_version: &'static str,
    unix_time: u64,
    network_interfaces: Vec<Interface>,
    rules: Vec<DumpedRule>,
    route: Vec<DumpedRoute>,
    conntrack_table: Option<Vec<String>>,
    neighbors: Vec<DumpedNeighbour>,
    system: System,
    processes: Option<Vec<String>>,
    environment_variables: Vec<String>,
}

/// The line of `--debug`, for the network namespace of the calling thread.
///
/// # Errors
/// The kernel cannot be read.
pub(crate) async fn export() -> Result<String, Refusal> {
    let kernel::Dump { interfaces, rules, routes, neighbours } = kernel::dump().await?;
    let export = Export {
        version: FORMAT,
        meridio_version: env!("CARGO_PKG_VERSION"),
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        network_interfaces: interfaces,
        rules,
        route: routes,
        conntrack_table: None,
        neighbors: neighbours,
        system: System::read(),
        processes: None,
        environment_variables: config::environment().map(|(name, value)| variable(&name, &value)).collect(),
    };
    serde_json::to_string(&export).map_err(Refusal::broken)
}

fn variable(name: &str, value: &str) -> String {
    let upper = name.to_uppercase();
    let secret = SECRET.iter().any(|part| upper.contains(part));
    format!("{name}={}", if secret { MASK } else { value })
}

#[cfg(test)]
mod tests;
