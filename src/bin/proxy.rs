// SPDX-License-Identifier: Apache-2.0
//! Meridio's proxy: arguments in, exit code out.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use nsm::proxy::{app, arguments, arguments::Command, config, grpc_health_probe};

fn main() -> ExitCode {
    let command = match grpc_health_probe::is_meant(&config::program()) {
        true => grpc_health_probe::parse(config::arguments()),
        false => Command::parse(config::arguments()),
    };
    match command {
        Ok(Command::Run) => app::run(),
        Ok(Command::Help) => print(arguments::help()),
        Ok(Command::Version) => print(format_args!("{}\n", env!("CARGO_PKG_VERSION"))),
        Ok(Command::Chains) => app::chains(),
        Ok(Command::Debug) => app::debug(),
        Ok(Command::Probe { service, socket, limit }) => app::probe(&socket, &service, limit),
        Err(usage) => {
            let _lost = writeln!(io::stderr(), "proxy: {usage}");
            ExitCode::from(2)
        }
    }
}

fn print(text: impl Display) -> ExitCode {
    match write!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
