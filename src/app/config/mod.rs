// SPDX-License-Identifier: Apache-2.0

//! Reads the configuration of a program from its environment, with every mistake at once.

mod duration;
mod reader;
mod telemetry;
mod variable;
pub(crate) mod variables;

pub use self::{
    duration::{InvalidDuration, parse_duration},
    reader::{Mistake, Mistakes},
    variable::Variable,
};
pub(crate) use self::{
    reader::{ABSOLUTE, Get, Reader, absolute, without_user},
    telemetry::destination,
};
