// SPDX-License-Identifier: Apache-2.0

//! Parses the command line.
//!
//! Options may have one dash instead of two, as Go's `flag` accepts them.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use clap::ArgMatches;
use clap_complete::Shell;

use super::{
    definition::{PROGRAM, definition},
    inspect::Part,
    read::{Options, View},
    usage::UsageError,
};
use crate::{proxy::config, transport::Address};

/// The commands of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Run the proxy.
    Run,
    /// Print a text.
    Print(String),
    /// Print the variables that the proxy reads.
    Variables,
    /// Print the version.
    Version,
    /// Print both chains.
    Chains,
    /// Print the state of the network.
    Debug,
    /// Query the health of a running proxy.
    Probe(Probe),
    /// Print the walks of packets from and to an address.
    Explain {
        /// The address.
        address: IpAddr,
        /// As JSON.
        json: bool,
    },
    /// Print a part of the state of the running proxy.
    Read(View, Options),
    /// Check the pod.
    Check {
        /// Address of the admin listener.
        admin: Option<Address>,
        /// As JSON.
        json: bool,
    },
    /// Write an archive for a report.
    Diags {
        /// The file; `-` is stdout.
        file: PathBuf,
        /// Address of the admin listener.
        admin: Option<Address>,
    },
    /// Print a completion script.
    Completions(Shell),
    /// Print the man page.
    Man,
}

/// A query of the health socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// Service name; empty for the server itself.
    pub(super) service: String,
    /// The health socket.
    pub(super) socket: PathBuf,
    /// Timeout for each of connecting and calling.
    pub(super) limit: Duration,
}

/// Parses arguments, without the program's name.
///
/// # Errors
/// The first argument that is not accepted.
pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    if arguments.is_empty() {
        return Ok(Command::Run); // the definition costs memory, which a running proxy saves
    }
    let mut definition = definition();
    let matches = definition.try_get_matches_from_mut(with_two_dashes(&arguments));
    let matches = match matches {
        Ok(matches) => matches,
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            return Ok(Command::Print(error.to_string()));
        }
        Err(error) => return Err(UsageError::new(&error, &definition, &arguments)),
    };
    Ok(command(&matches, &mut definition))
}

/// The program's name and its arguments; an option of several letters gets a second dash.
pub(super) fn with_two_dashes(arguments: &[String]) -> impl Iterator<Item = OsString> + '_ {
    let arguments = arguments.iter().map(|argument| match argument.strip_prefix('-') {
        Some("-h" | "h") => "-h".into(),
        Some(name) if name.len() > 1 && !name.starts_with('-') => format!("--{name}").into(),
        _ => argument.into(),
    });
    std::iter::once(PROGRAM.into()).chain(arguments)
}

fn command(matches: &ArgMatches, definition: &mut clap::Command) -> Command {
    match matches.subcommand() {
        Some(("chains", _)) => Command::Chains,
        Some(("probe", of)) => Command::Probe(probe(of)),
        Some(("explain", of)) => Command::Explain {
            address: of.get_one("ADDRESS").copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            json: of.get_flag("json"),
        },
        Some(("status", of)) => Command::Read(View::Status, options(of)),
        Some(("plan", of)) => Command::Read(View::Plan, options(of)),
        Some(("inspect", of)) => {
            let name = of.get_one::<String>("PART").map_or("", String::as_str);
            let part = Part::ALL.into_iter().find(|part| part.name() == name).unwrap_or(Part::Links);
            Command::Read(View::Inspect(part), options(of))
        }
        Some(("check", of)) => Command::Check { admin: admin(of), json: of.get_flag("json") },
        Some(("diags", of)) => {
            let file = of.get_one::<PathBuf>("FILE").cloned().unwrap_or_default();
            Command::Diags { file, admin: admin(of) }
        }
        Some(("completions", of)) => Command::Completions(*of.get_one("SHELL").unwrap_or(&Shell::Bash)),
        Some(("man", _)) => Command::Man,
        Some(("help", of)) => help(of, definition),
        _ if matches.get_flag("version") => Command::Version,
        _ if matches.get_flag("debug") => Command::Debug,
        _ => Command::Run,
    }
}

fn help(matches: &ArgMatches, definition: &mut clap::Command) -> Command {
    let topic = matches.get_one::<String>("TOPIC").map_or("", String::as_str);
    if topic == "variables" {
        return Command::Variables;
    }
    definition.build(); // names each command after the program
    let of = definition.find_subcommand_mut(topic).map(|command| command.render_help());
    Command::Print(of.unwrap_or_else(|| definition.render_help()).to_string())
}

fn probe(matches: &ArgMatches) -> Probe {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let limit = matches.get_one("timeout").copied().unwrap_or_default();
    Probe { service: text("NAME"), socket: text("socket").into(), limit }
}

fn options(matches: &ArgMatches) -> Options {
    let watch = matches.get_one::<Duration>("watch").copied();
    Options { admin: admin(matches), json: matches.get_flag("json"), watch }
}

/// The address of the admin listener: that of the option, or of the variable.
fn admin(matches: &ArgMatches) -> Option<Address> {
    matches.get_one("admin").cloned().or_else(config::admin_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        super::parse(arguments.iter().map(|text| (*text).to_owned())).map_err(|error| error.to_string())
    }

    fn probe(service: &str, socket: &str, limit: u64) -> Result<Command, String> {
        let limit = Duration::from_millis(limit);
        Ok(Command::Probe(Probe { service: service.into(), socket: socket.into(), limit }))
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn arguments_are_parsed_with_one_dash_or_two() {
        let default = "/tmp/health.sock";
        assert_eq!(parse(&[]), Ok(Command::Run));
        for (flags, command) in
            [(["--version", "-version"], Command::Version), (["--debug", "-debug"], Command::Debug)]
        {
            for flag in flags {
                assert_eq!(parse(&[flag]), Ok(command.clone()), "{flag}");
            }
        }
        for flag in ["--help", "-help", "-h", "--h", "help"] {
            assert!(matches!(parse(&[flag]), Ok(Command::Print(help)) if help.contains("chains")), "{flag}");
        }
        assert!(matches!(parse(&["help", "probe"]), Ok(Command::Print(help)) if help.contains("--socket")));
        assert_eq!(parse(&["help", "variables"]), Ok(Command::Variables));
        assert_eq!(parse(&["chains"]), Ok(Command::Chains));
        assert_eq!(parse(&["completions", "zsh"]), Ok(Command::Completions(Shell::Zsh)));
        assert_eq!(parse(&["probe", "Liveness"]), probe("Liveness", default, 400));
        assert_eq!(parse(&["probe", ""]), probe("", default, 400));
        assert_eq!(
            parse(&["probe", "--timeout", "1s", "Egress", "-socket", "/y", "-socket=/x"]),
            probe("Egress", "/x", 1000)
        );
    }

    #[test]
    fn a_command_that_reads_the_proxy_has_its_options() {
        let admin = "unix:///a".parse::<Address>().ok();
        let every = |seconds| Some(Duration::from_secs(seconds));
        let options = |json, watch| Options { admin: admin.clone(), json, watch };
        let table: &[(&[&str], View, Options)] = &[
            (&["status"], View::Status, options(false, None)),
            (&["plan", "--json"], View::Plan, options(true, None)),
            (&["inspect"], View::Inspect(Part::Links), options(false, None)),
            (&["inspect", "next-hops", "--watch"], View::Inspect(Part::NextHops), options(false, every(2))),
            (&["inspect", "events", "-watch=5s"], View::Inspect(Part::Events), options(false, every(5))),
        ];
        for (arguments, view, options) in table {
            let all = [*arguments, &["--admin", "unix:///a"]].concat();
            assert_eq!(parse(&all), Ok(Command::Read(*view, options.clone())), "{arguments:?}");
        }
    }

    #[test]
    fn an_argument_that_is_not_accepted_is_named() {
        let table: &[(&[&str], &str, &str)] = &[
            (&["--verbose"], "`--verbose`", "--debug, --version"),
            (&["-verbose"], "verbose`", "probe, status"),
            (&["-x"], "`-x`", "--help"),
            (&["run"], "`run`", "chains"),
            (&["--probe", "x"], "`--probe`", "probe"),
            (&["--chains"], "`--chains`", "chains"),
            (&["--debug", "chains"], "chains`", "--debug"),
            (&["chains", "x"], "`x`", "--help"),
            (&["help", "x"], "`x`", "probe, status"),
            (&["explain"], "`explain` lacks ADDRESS", "ADDRESS, --json"),
            (&["explain", "lb-1"], "`lb-1`", "the IPv4 or IPv6 address of a VIP"),
            (&["explain", "::1"], "`::1`", "this is a loopback address"),
            (&["inspect", "ports"], "`ports`", "links, connections, next-hops"),
            (&["status", "--watch=fast"], "`fast`", "a duration such as 400ms"),
            (&["status", "--admin", "nowhere"], "`nowhere`", "unix:///path"),
            (&["check", "--watch"], "`--watch`", "--json, --admin ADDRESS"),
            (&["completions", "csh"], "`csh`", "bash"),
            (&["probe"], "`probe` lacks NAME", "--socket PATH"),
            (&["probe", "a", "b"], "`b`", "NAME, --socket PATH, --timeout DURATION"),
            (&["probe", "a", "--socket"], "`--socket` lacks PATH", "--socket PATH"),
            (&["probe", "a", "--timeout"], "`--timeout` lacks DURATION", "--timeout DURATION"),
            (&["probe", "a", "--timeout", "0s"], "`0s`", "a duration such as 400ms"),
            (&["probe", "a", "--timeout", "fast"], "`fast`", "a duration such as 400ms"),
            (&["probe", "a", "--addr", "x"], "`--addr`", "--socket PATH"),
        ];
        for (arguments, named, accepted) in table {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(named) && error.contains(accepted), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn an_argument_of_any_size_gives_a_short_error() {
        let error = parse(&[&"x\n".repeat(50_000)]).unwrap_err();
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
    }

    #[test]
    fn the_help_fits_a_screen() {
        let Ok(Command::Print(help)) = parse(&["--help"]) else { panic!("no help") };
        assert!(help.lines().count() <= 24 && help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}
