// SPDX-License-Identifier: Apache-2.0

//! The commands of the program: arguments in, exit code out.

mod admin;
mod chains;
mod check;
mod definition;
mod diags;
mod explain;
mod grpc_health_probe;
mod inspect;
mod line;
mod output;
mod pages;
mod plan;
mod read;
#[cfg(test)]
mod sample;
mod status;
mod usage;

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use self::line::{Command, Probe};
use super::{app, debug, health};
use crate::chain::causes;

/// Exit code of a command line that is not accepted.
const USAGE: u8 = 2;

/// Runs the command that the arguments name; without arguments, the proxy. `program` is the name by
/// which the program was started.
pub fn main(program: &str, arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let command = match grpc_health_probe::is_meant(program) {
        true => grpc_health_probe::parse(arguments),
        false => line::parse(arguments),
    };
    match command {
        Ok(Command::Run) => app::run(),
        Ok(Command::Print(text)) => print(text),
        Ok(Command::Variables) => print(pages::variables()),
        Ok(Command::Version) => print(format_args!("{}\n", env!("CARGO_PKG_VERSION"))),
        Ok(Command::Chains) => print(chains::text()),
        Ok(Command::Completions(shell)) => print(pages::completions(shell)),
        Ok(Command::Man) => print(pages::man()),
        Ok(Command::Debug) => on_runtime(async {
            debug::export().await.map_or_else(|error| complain(&error), |line| print(line + "\n"))
        }),
        Ok(Command::Explain { address, json }) => on_runtime(explain::run(address, json)),
        Ok(Command::Read(view, options)) => on_runtime(read::run(view, options)),
        Ok(Command::Check { admin, json }) => on_runtime(check::run(admin, json)),
        Ok(Command::Diags { file, admin }) => on_runtime(async move { diags::run(&file, admin).await }),
        Ok(Command::Probe(Probe { service, socket, limit })) => on_runtime(async {
            match health::probe(&socket, &service, limit).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&error);
                    ExitCode::from(error.code())
                }
            }
        }),
        Err(usage) => {
            complain(&usage);
            ExitCode::from(USAGE)
        }
    }
}

/// Runs a command on a runtime of this thread.
fn on_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => complain(&error),
    }
}

/// Prints a value as indented JSON.
fn json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(text + "\n"),
        Err(error) => complain(&error),
    }
}

/// Prints to stdout.
fn print(text: impl Display) -> ExitCode {
    match write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

/// Prints a line to stderr, for a command that does not log.
fn complain(error: &(dyn Error + 'static)) -> ExitCode {
    let _lost = writeln!(io::stderr(), "proxy: {}", causes(error));
    ExitCode::FAILURE
}
