// SPDX-License-Identifier: Apache-2.0

//! Defines the commands and options.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, value_parser};
use clap_complete::Shell;

use super::inspect::Part;
use crate::{
    kernel::explain,
    proxy::{config::parse_duration, health},
    transport::Address,
};

/// Name of the program.
pub(super) const PROGRAM: &str = "proxy";

/// Timeout of a probe for each of connecting and calling, as in Meridio's manifests.
const PROBE_LIMIT: &str = "400ms";

/// Default file of the archive: the folder is writable in the image.
const DIAGS: &str = "/tmp/proxy-diags.tar";

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

/// A duration of Go's syntax that is longer than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let nanos = parse_duration(text).ok().and_then(|nanos| u64::try_from(nanos).ok());
    nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos).ok_or("a duration such as 400ms")
}

pub(super) fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}
