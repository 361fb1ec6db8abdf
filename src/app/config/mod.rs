// SPDX-License-Identifier: Apache-2.0

//! Reads the configuration of a program from its environment, with every mistake at once.

mod arguments;
mod duration;
mod env;
mod reader;
mod telemetry;
mod variable;
pub(crate) mod variables;

pub(crate) use self::{
    arguments::{Action, action},
    reader::Reader,
    telemetry::destination,
};
pub use self::{
    duration::{InvalidDuration, parse_duration},
    env::Env,
    reader::{Mistake, Mistakes},
    variable::Variable,
};
#[cfg(feature = "proxy")]
pub(crate) use self::{
    reader::{ABSOLUTE, Get, absolute, without_user},
    telemetry::metrics_destination,
};
