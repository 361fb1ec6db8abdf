// SPDX-License-Identifier: Apache-2.0
//! Parses the command line: flags as Go's `flag` accepts them, with one dash or two, and two
//! commands.

use std::{fmt::Write, path::PathBuf, time::Duration};

use super::{
    config::{VARIABLES, parse_duration},
    health,
};

/// Timeout of a probe for each of connecting and calling, as in Meridio's manifests.
const PROBE_LIMIT: Duration = Duration::from_millis(400);

/// The commands of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the proxy.
    Run,
    /// Print a description of the proxy and the variables that it reads.
    Help,
    /// Print the version.
    Version,
    /// Print both chains.
    Chains,
    /// Print the state of the network.
    Debug,
    /// Query the health of a running proxy.
    Probe {
        /// Service name; empty for the server itself.
        service: String,
        /// The health socket.
        socket: PathBuf,
        /// Timeout for each of connecting and calling.
        limit: Duration,
    },
}

/// The command line is not accepted. The text names the argument and the accepted ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{argument}` is not accepted (accepted: {accepted}); see --help")]
pub struct UsageError {
    argument: String,
    accepted: &'static str,
}

impl Command {
    /// Parses arguments, without the program's name.
    ///
    /// # Errors
    /// [`UsageError`] for the first argument that is not accepted.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let mut arguments = arguments.into_iter();
        let Some(first) = arguments.next() else {
            return Ok(Command::Run);
        };
        match (flag(&first), first.as_str()) {
            (Some("help" | "h"), _) => Ok(Command::Help),
            (Some("version"), _) => Ok(Command::Version),
            (Some("debug"), _) => Ok(Command::Debug),
            (None, "probe") => probe(arguments),
            (None, "chains") => match arguments.next() {
                None => Ok(Command::Chains),
                Some(extra) => Err(refuse(extra, "nothing after chains")),
            },
            _ => Err(refuse(first, "no argument, --help, --version, --debug, probe NAME, chains")),
        }
    }
}

fn probe(mut arguments: impl Iterator<Item = String>) -> Result<Command, UsageError> {
    let mut service = None;
    let mut socket = PathBuf::from(health::SOCKET);
    let mut limit = PROBE_LIMIT;
    while let Some(argument) = arguments.next() {
        match (flag(&argument), &service) {
            (Some("socket"), _) => {
                let path = arguments.next().ok_or_else(|| refuse(argument, "--socket PATH"))?;
                socket = PathBuf::from(path);
            }
            (Some("timeout"), _) => {
                let text = arguments.next().ok_or_else(|| refuse(argument, "--timeout DURATION"))?;
                limit = duration(&text).ok_or_else(|| refuse(text, "a duration such as 400ms"))?;
            }
            (None, None) => service = Some(argument),
            _ => return Err(refuse(argument, "NAME, --socket PATH, --timeout DURATION")),
        }
    }
    let service = service.ok_or_else(|| refuse("probe".into(), "probe NAME, with \"\" for the server"))?;
    Ok(Command::Probe { service, socket, limit })
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    let nanos = parse_duration(text).ok()?;
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

/// The name of a flag with one dash or two.
pub(super) fn flag(argument: &str) -> Option<&str> {
    argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))
}

pub(super) fn refuse(argument: String, accepted: &'static str) -> UsageError {
    UsageError { argument: argument.chars().take(64).collect(), accepted }
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "proxy runs on every node between the targets of a conduit and its load balancers.\n\
         It is an NSM endpoint towards targets, an NSM client of every load balancer, and keeps the bridge,\n\
         routes and rules between them as they should be. It is configured by environment variables.\n\n\
         Usage: proxy [--help | --version]        run, with the variables below\n\
         \x20      proxy probe NAME                  exit 0 only if NAME is SERVING on the health socket\n\
         \x20            [--socket PATH]             default /tmp/health.sock\n\
         \x20            [--timeout DURATION]        default 400ms, for connecting and for the call\n\
         \x20      proxy chains                      print both chains, one element per line\n\
         \x20      proxy --debug                     print links, rules, routes and neighbours as one line of JSON\n\n\
         Signals: SIGINT, SIGHUP, SIGTERM, SIGQUIT end; SIGUSR2 logs at TRACE, SIGUSR1 as configured.\n\n\
         Variables:\n",
    );
    for variable in VARIABLES {
        let or = variable.alias.map(|alias| format!(" (or {alias})")).unwrap_or_default();
        let default =
            if variable.default.is_empty() { String::new() } else { format!(" [{}]", variable.default) };
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "  {}{or}{default}\n      {}", variable.name, variable.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        Command::parse(arguments.iter().map(|text| (*text).to_owned())).map_err(|error| error.to_string())
    }

    fn probe(service: &str, socket: &str, limit: u64) -> Result<Command, String> {
        let limit = Duration::from_millis(limit);
        Ok(Command::Probe { service: service.into(), socket: socket.into(), limit })
    }

    #[test]
    fn g02_arguments_mean_what_they_say() {
        let default = "/tmp/health.sock";
        assert_eq!(parse(&[]), Ok(Command::Run));
        for (flags, command) in [
            (["--help", "-help", "-h", "--h"], Command::Help),
            (["--version", "-version", "--version", "-version"], Command::Version),
            (["--debug", "-debug", "--debug", "-debug"], Command::Debug),
        ] {
            for flag in flags {
                assert_eq!(parse(&[flag]), Ok(command.clone()), "{flag}");
            }
        }
        assert_eq!(parse(&["chains"]), Ok(Command::Chains));
        assert_eq!(parse(&["probe", "Liveness"]), probe("Liveness", default, 400));
        assert_eq!(parse(&["probe", ""]), probe("", default, 400));
        assert_eq!(
            parse(&["probe", "--timeout", "1s", "Egress", "-socket", "/x"]),
            probe("Egress", "/x", 1000)
        );
    }

    #[test]
    fn g02_what_is_not_accepted_is_named() {
        let table: &[(&[&str], &str)] = &[
            (&["--verbose"], "`--verbose`"),
            (&["run"], "`run`"),
            (&["help"], "`help`"),
            (&["--probe", "x"], "`--probe`"),
            (&["--chains"], "`--chains`"),
            (&["chains", "x"], "`x`"),
            (&["probe"], "probe NAME"),
            (&["probe", "a", "b"], "`b`"),
            (&["probe", "a", "--socket"], "--socket PATH"),
            (&["probe", "a", "--timeout"], "--timeout DURATION"),
            (&["probe", "a", "--timeout", "0s"], "`0s`"),
            (&["probe", "a", "--timeout", "fast"], "`fast`"),
            (&["probe", "a", "--addr", "x"], "`--addr`"),
        ];
        for (arguments, named) in table {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn help_lists_every_variable_with_its_default_and_other_name() {
        let help = help();
        for variable in VARIABLES {
            let line = help.lines().find(|line| line.trim_start().split(' ').next() == Some(variable.name));
            let line = line.unwrap_or_else(|| panic!("{} is missing", variable.name));
            assert!(
                variable.default.is_empty() || line.ends_with(&format!("[{}]", variable.default)),
                "{line}"
            );
            assert!(variable.alias.is_none_or(|alias| line.contains(&format!("(or {alias})"))), "{line}");
            assert!(help.contains(variable.meaning));
        }
    }
}
