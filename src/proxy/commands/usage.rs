// SPDX-License-Identifier: Apache-2.0

//! The error of a command line that is not accepted.

use std::fmt::{self, Display};

use clap::{
    Arg,
    error::{ContextKind, ErrorKind},
};

/// Longest part of an argument that an error repeats, in characters.
const SHOWN: usize = 64;

/// The command line is not accepted. The text names the argument and the accepted ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (accepted: {accepted}); see --help")]
pub(super) struct UsageError {
    problem: String,
    accepted: String,
}

impl UsageError {
    /// An argument, and a description of those that are accepted in its place.
    pub(super) fn refused(argument: &str, accepted: impl Display) -> Self {
        let problem = format!("`{}` is not accepted", short(argument));
        Self { problem, accepted: accepted.to_string() }
    }

    /// The error of clap for `arguments`, of which the first may be a command of
    /// `definition`.
    pub(super) fn new(error: &clap::Error, definition: &clap::Command, arguments: &[String]) -> Self {
        let get = |kind| error.get(kind).map(ToString::to_string);
        let named = arguments.first().and_then(|first| definition.find_subcommand(first));
        let command = named.unwrap_or(definition);
        let accepted = accepted(command);
        let argument = get(ContextKind::InvalidArg).unwrap_or_default();
        let value = get(ContextKind::InvalidValue);
        match error.kind() {
            ErrorKind::MissingRequiredArgument => {
                Self { problem: lacks(command.get_name(), &argument), accepted }
            }
            ErrorKind::InvalidValue if value.as_deref() == Some("") => {
                let (name, placeholder) = argument.split_once(' ').unwrap_or((&argument, "a value"));
                Self { problem: lacks(name, placeholder), accepted }
            }
            ErrorKind::InvalidValue => {
                let valid = get(ContextKind::ValidValue).unwrap_or(accepted);
                Self::refused(&value.unwrap_or(argument), valid)
            }
            ErrorKind::ValueValidation => {
                let why = std::error::Error::source(error).map_or(accepted, ToString::to_string);
                Self::refused(&value.unwrap_or(argument), why)
            }
            _ => Self::refused(&get(ContextKind::InvalidSubcommand).unwrap_or(argument), accepted),
        }
    }
}

fn lacks(name: &str, placeholder: &str) -> String {
    format!("`{name}` lacks {}", placeholder.trim_matches(['<', '>']))
}

/// The start of an argument, on one line.
fn short(argument: &str) -> String {
    argument.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The arguments that a command accepts.
fn accepted(command: &clap::Command) -> String {
    let arguments = command.get_arguments().map(|argument| Accepted(argument).to_string());
    let commands = command.get_subcommands().map(|command| command.get_name().to_owned());
    let mut accepted: Vec<_> = arguments.chain(commands).collect();
    if !accepted.iter().any(|name| name == "--help") {
        accepted.push("--help".to_owned());
    }
    accepted.join(", ")
}

/// An argument as it is written on the command line.
struct Accepted<'a>(&'a Arg);

impl Display for Accepted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(long) = self.0.get_long() else { return f.write_str(self.0.get_id().as_str()) };
        write!(f, "--{long}")?;
        let values = self.0.get_value_names().filter(|_| self.0.get_action().takes_values());
        values.into_iter().flatten().try_for_each(|value| write!(f, " {value}"))
    }
}
