// SPDX-License-Identifier: Apache-2.0

//! Parses the arguments of `grpc_health_probe`, which the probes in Meridio's manifests call.
//!
//! In the image that name is a link to the proxy, so that manifests need no change. Flags have one
//! dash or two, and their value behind `=` or as the next argument.

use std::{path::Path, time::Duration};

use clap::{Arg, ArgAction};

use super::{
    definition::{duration, option},
    line::{Command, Probe, with_two_dashes},
    usage::UsageError,
};
use crate::proxy::health;

/// Name under which the proxy is called as a probe.
const NAME: &str = "grpc_health_probe";

/// Whether the program was started under the name of the probe.
pub(super) fn is_meant(program: &str) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == NAME)
}

/// Parses the arguments, without the program's name.
///
/// # Errors
/// The first argument that is not accepted.
pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let mut definition = definition();
    let matches = definition
        .try_get_matches_from_mut(with_two_dashes(&arguments))
        .map_err(|error| UsageError::new(&error, &definition, &arguments))?;
    let socket = matches.get_one::<String>("addr").map_or(health::SOCKET, String::as_str);
    let limit = |name| matches.get_one::<Duration>(name).copied().unwrap_or_default();
    let service = matches.get_one::<String>("service").cloned().unwrap_or_default();
    // The limit of a probe is that of each of its two steps.
    let limit = limit("connect-timeout").max(limit("rpc-timeout"));
    Ok(Command::Probe(Probe { service, socket: socket.into(), limit }))
}

fn definition() -> clap::Command {
    let timeout = |name, help| option(name, "DURATION", help).default_value("1s").value_parser(duration);
    clap::Command::new(NAME)
        .disable_help_flag(true)
        .args_override_self(true)
        .arg(option("addr", "unix:///PATH", "The health socket").value_parser(socket))
        .arg(option("service", "NAME", "Name of the service"))
        .arg(timeout("connect-timeout", "Time to connect"))
        .arg(timeout("rpc-timeout", "Time for the call"))
        .arg(Arg::new("v").short('v').long("v").action(ArgAction::SetTrue))
}

/// The path of a unix socket.
fn socket(address: &str) -> Result<String, &'static str> {
    let path = address.strip_prefix("unix://").or_else(|| address.strip_prefix("unix:"));
    path.map(str::to_owned).ok_or("unix:///PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(|text| (*text).to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_probes_of_meridios_manifests_are_accepted() {
        let service = String::from("Readiness");
        let expected = Command::Probe(Probe {
            service,
            socket: "/tmp/health.sock".into(),
            limit: Duration::from_millis(400),
        });
        let operator = [
            "-addr=unix:///tmp/health.sock",
            "-service=Readiness",
            "-connect-timeout=400ms",
            "-rpc-timeout=400ms",
        ];
        assert_eq!(read(&operator), Ok(expected.clone()));
        let split = ["--service", "Readiness", "-v", "-connect-timeout", "400ms", "-rpc-timeout=400ms"];
        assert_eq!(read(&split), Ok(expected));
        assert!(is_meant("/bin/grpc_health_probe") && !is_meant("./proxy"));
    }

    #[test]
    fn a_flag_that_is_not_accepted_is_named() {
        let table: &[(&[&str], &str)] = &[
            (&["-tls"], "-tls`"),
            (&["Readiness"], "`Readiness`"),
            (&["-addr=localhost:1"], "`localhost:1`"),
            (&["-addr"], "`--addr` lacks unix:///PATH"),
            (&["-rpc-timeout=soon"], "`soon`"),
        ];
        for (arguments, named) in table {
            let error = read(arguments).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
    }
}
