// SPDX-License-Identifier: Apache-2.0
//! Meridio's proxy: arguments in, exit code out.

use std::process::ExitCode;

use nsm::proxy::{commands, config};

fn main() -> ExitCode {
    commands::main(&config::program(), config::arguments())
}
