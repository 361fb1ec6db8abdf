// SPDX-License-Identifier: Apache-2.0

//! Parses the arguments of `grpc_health_probe`, which the probes in Meridio's manifests call.
//!
//! In the image that name is a link to the proxy, so that manifests need no change. Flags have one
//! dash or two, and their value behind `=` or as the next argument.

use std::{path::Path, time::Duration};

use super::{
    arguments::{Command, UsageError, duration, flag, refuse},
    health,
};

/// Name under which the proxy is called as a probe.
pub const NAME: &str = "grpc_health_probe";

const ACCEPTED: &str =
    "-addr unix:///PATH, -service NAME, -connect-timeout DURATION, -rpc-timeout DURATION, -v";

/// Whether the program was started under the name of the probe.
pub fn is_meant(program: &str) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == NAME)
}

/// Parses the arguments, without the program's name.
///
/// # Errors
/// [`UsageError`] for the first argument that is not accepted.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter();
    let mut service = String::new();
    let mut socket = health::SOCKET.to_owned();
    let mut limits = [Duration::from_secs(1); 2]; // for connecting and for calling, as in the original
    while let Some(argument) = arguments.next() {
        let (name, value) = match flag(&argument).and_then(|flag| flag.split_once('=')) {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag(&argument).unwrap_or_default(), None),
        };
        if name == "v" {
            continue;
        }
        if !["addr", "service", "connect-timeout", "rpc-timeout"].contains(&name) {
            return Err(refuse(argument, ACCEPTED));
        }
        let Some(value) = value.or_else(|| arguments.next()) else { return Err(refuse(argument, ACCEPTED)) };
        let limit = || duration(&value).ok_or_else(|| refuse(value.clone(), "a duration such as 400ms"));
        match name {
            "connect-timeout" => limits[0] = limit()?,
            "rpc-timeout" => limits[1] = limit()?,
            "service" => service = value,
            _ => match value.strip_prefix("unix://").or_else(|| value.strip_prefix("unix:")) {
                Some(path) => socket = path.to_owned(),
                None => return Err(refuse(value, "-addr unix:///PATH")),
            },
        }
    }
    Ok(Command::Probe { service, socket: socket.into(), limit: limits[0].max(limits[1]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(|text| (*text).to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_probes_of_meridios_manifests_are_understood() {
        let service = String::from("Readiness");
        let expected =
            Command::Probe { service, socket: "/tmp/health.sock".into(), limit: Duration::from_millis(400) };
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
    fn what_is_not_accepted_is_named() {
        let table: &[(&[&str], &str)] = &[
            (&["-tls"], "`-tls`"),
            (&["Readiness"], "`Readiness`"),
            (&["-addr=localhost:1"], "`localhost:1`"),
            (&["-addr"], "`-addr`"),
            (&["-rpc-timeout=soon"], "`soon`"),
        ];
        for (arguments, named) in table {
            let error = read(arguments).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
    }
}
