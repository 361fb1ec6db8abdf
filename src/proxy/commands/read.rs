// SPDX-License-Identifier: Apache-2.0

//! The commands that print a part of the state of the running proxy, once or again and again.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;

use super::{
    admin::{self, AdminError},
    complain, inspect,
    inspect::Part,
    json,
    output::Style,
    plan, print, status,
};
use crate::{proxy::state::Document, transport::Address};

/// The part of the state that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// A summary.
    Status,
    /// The changes that the reconciler has left to make.
    Plan,
    /// A table.
    Inspect(Part),
}

/// The options of such a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Address of the admin listener.
    pub(super) admin: Option<Address>,
    /// Print JSON.
    pub(super) json: bool,
    /// Print again after each of these intervals.
    pub(super) watch: Option<Duration>,
}

/// An answer in both forms, with the exit code.
pub(super) struct Report {
    pub(super) text: String,
    pub(super) json: Value,
    pub(super) code: u8,
}

/// Clears a terminal and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints a view; with an interval, until a signal ends the process.
pub(super) async fn run(view: View, options: Options) -> ExitCode {
    loop {
        let shown = once(view, &options).await;
        let Some(pause) = options.watch else {
            return shown.unwrap_or_else(|error| complain(&error));
        };
        if let Err(error) = shown {
            complain(&error); // the proxy may come back
        }
        tokio::time::sleep(pause).await;
    }
}

async fn once(view: View, options: &Options) -> Result<ExitCode, AdminError> {
    let document = admin::document(options.admin.as_ref()).await?;
    let answer = answer(view, &document, Style::of_stdout());
    let printed = match (options.json, options.watch) {
        (true, None) => json(&answer.json),
        (true, Some(_)) => print(format_args!("{}\n", answer.json)),
        (false, Some(_)) if io::stdout().is_terminal() => print(format_args!("{CLEAR}{}", answer.text)),
        (false, _) => print(answer.text),
    };
    Ok(if answer.code == 0 { printed } else { ExitCode::from(answer.code) })
}

fn answer(view: View, document: &Document, style: Style) -> Report {
    match view {
        View::Status => status::answer(document, style),
        View::Plan => plan::answer(document),
        View::Inspect(part) => inspect::answer(part, document, style),
    }
}
