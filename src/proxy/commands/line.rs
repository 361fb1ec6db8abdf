// SPDX-License-Identifier: Apache-2.0

//! The command line: its commands and options, and their parser.
//!
//! Options may have one dash instead of two, as Go's `flag` accepts them.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use clap_complete::Shell;

use super::{
    inspect::Part,
    read::{Options, View},
    usage::UsageError,
};
use crate::{
    kernel::explain,
    proxy::{
        config::{self, parse_duration},
        health,
    },
    transport::Address,
};

/// Name of the program.
pub(super) const PROGRAM: &str = "proxy";

/// Timeout of a probe for each of connecting and calling, as in Meridio's manifests.
const PROBE_LIMIT: &str = "400ms";

/// Default file of the archive: the folder is writable in the image.
const DIAGS: &str = "/tmp/proxy-diags.tar";

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

/// A duration of Go's syntax that is longer than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let nanos = parse_duration(text).ok().and_then(|nanos| u64::try_from(nanos).ok());
    nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos).ok_or("a duration such as 400ms")
}

/// The commands and options.
pub(super) fn definition() -> clap::Command {
    let mut commands = commands();
    let names = commands.iter().map(|command| command.get_name().to_owned());
    let topics: Vec<_> = names.chain(["variables".to_owned()]).collect();
    commands.push(
        clap::Command::new("help")
            .about("Print the help of a command, or the variables")
            .arg(Arg::new("TOPIC").value_parser(topics)),
    );
    clap::Command::new(PROGRAM)
        .about(
            "Meridio's proxy, between the targets of a conduit and its load balancers.\n\
             Without a command it runs; `proxy help variables` lists its configuration.",
        )
        .after_help("Signals: INT, HUP, TERM, QUIT end it; USR2 logs at TRACE, USR1 as configured.")
        .help_template("{about}\n\nUsage: {usage}\n\n{all-args}{after-help}\n")
        .override_usage("proxy [COMMAND | OPTION]")
        .disable_help_subcommand(true)
        .args_conflicts_with_subcommands(true)
        .args_override_self(true)
        .arg(flag("debug", "Print links, rules, routes and neighbours as one line of JSON"))
        .arg(flag("version", "Print the version"))
        .subcommands(commands)
}

fn commands() -> Vec<clap::Command> {
    vec![probe_command(), status(), inspect(), explain(), plan(), check(), diags()]
        .into_iter()
        .chain(printed())
        .collect()
}

fn probe_command() -> clap::Command {
    clap::Command::new("probe")
        .about("Exit with 0 only if a service is SERVING on the health socket")
        .args_override_self(true)
        .arg(Arg::new("NAME").required(true).help("Name of the service; \"\" is the server"))
        .arg(option("socket", "PATH", "The health socket").default_value(health::SOCKET))
        .arg(
            option("timeout", "DURATION", "Time for each of connecting and calling")
                .default_value(PROBE_LIMIT)
                .value_parser(duration),
        )
}

fn status() -> clap::Command {
    clap::Command::new("status")
        .about("Print whether the proxy is well, and if not, why and what to do")
        .after_help("Exit code: 0 if the proxy is ready, 1 if it is not or does not answer.")
        .args(reading())
}

fn inspect() -> clap::Command {
    clap::Command::new("inspect")
        .about("Print a part of the proxy's state as a table")
        .arg(
            Arg::new("PART")
                .default_value(Part::Links.name())
                .value_parser(Part::ALL.map(Part::name).to_vec())
                .help("The part"),
        )
        .args(reading())
}

fn explain() -> clap::Command {
    clap::Command::new("explain")
        .about("Follow packets from and to an address through the kernel")
        .after_help(
            "Run it in the pod's network namespace. Exit code: 0 if packets pass, 1 if any are dropped.",
        )
        .arg(
            Arg::new("ADDRESS")
                .required(true)
                .value_parser(explain::address)
                .help("A VIP, or the address of a target or of a load balancer"),
        )
        .arg(json())
}

fn plan() -> clap::Command {
    clap::Command::new("plan")
        .about("Print how the kernel differs from the declared state")
        .after_help("Exit code: 0 if nothing differs, 2 if something does, 1 if no proxy answers.")
        .args(reading())
}

fn check() -> clap::Command {
    clap::Command::new("check")
        .about("Check the pod; print the effect and the repair of each fault")
        .after_help("Exit code: 0 if no check fails, 1 if any does.")
        .arg(json())
        .arg(admin_option())
}

fn diags() -> clap::Command {
    clap::Command::new("diags")
        .about("Write one archive for a report, without secrets")
        .arg(
            Arg::new("FILE")
                .default_value(DIAGS)
                .value_parser(value_parser!(PathBuf))
                .help("The archive, a .tar; - is stdout"),
        )
        .arg(admin_option())
}

/// Commands that need no running proxy.
fn printed() -> [clap::Command; 3] {
    [
        clap::Command::new("chains").about("Print both chains, one element per line"),
        clap::Command::new("completions").about("Print the completions of a shell").arg(
            Arg::new("SHELL").required(true).value_parser(value_parser!(Shell)).help("Name of the shell"),
        ),
        clap::Command::new("man").about("Print the manual page, in roff"),
    ]
}

/// The options of a command that reads the admin listener.
fn reading() -> [Arg; 3] {
    let watch = option("watch", "DURATION", "Print again and again, every 2s if no duration is given")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("2s")
        .value_parser(duration);
    [json(), watch, admin_option()]
}

fn admin_option() -> Arg {
    option("admin", "ADDRESS", "The admin listener, host:port or unix:///path [NSM_ADMIN_ADDRESS]")
        .value_parser(|text: &str| text.parse::<Address>().map_err(|_| "host:port or unix:///path"))
}

fn json() -> Arg {
    flag("json", "Print JSON")
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

pub(super) fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
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
            (&["inspect", "ports"], "`ports`", "links, next-hops, vips"),
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
