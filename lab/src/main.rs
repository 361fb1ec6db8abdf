// SPDX-License-Identifier: Apache-2.0
//! Runs the proxy in a network of its own: `lab --help` names its arguments.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(meridio_lab::program::main(std::env::args_os().skip(1).collect()))
}
