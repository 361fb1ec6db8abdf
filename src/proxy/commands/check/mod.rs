// SPDX-License-Identifier: Apache-2.0

//! `proxy check`: whether this pod has everything that the proxy needs. For each fault, its effect
//! and its repair.

mod finding;
mod network;
mod peers;
mod pod;
mod running;

use std::{fmt::Write, process::ExitCode};

use serde_json::json;

use self::finding::{Finding, State};
use super::{
    json,
    output::{Colour, Style, Table, cell, printable},
    print,
};
use crate::{proxy::config::Config, transport::Address};

/// Exit code if a check has failed.
const FAILED: u8 = 1;

/// Prints every check in the pod of this process.
pub(super) async fn run(admin: Option<Address>, as_json: bool) -> ExitCode {
    let findings = findings(admin.as_ref()).await;
    let failed = findings.iter().any(|finding| finding.state == State::Failed);
    let printed = match as_json {
        true => json(&json!({"failed": failed, "checks": findings})),
        false => print(text(&findings, Style::of_stdout())),
    };
    if failed { ExitCode::from(FAILED) } else { printed }
}

/// Runs every check.
pub(super) async fn findings(admin: Option<&Address>) -> Vec<Finding> {
    let mut findings = vec![pod::capabilities(), pod::seccomp(), pod::descriptors(), pod::clock()];
    findings.extend(pod::sockets());
    findings.extend(pod::files());
    match Config::from_environment() {
        Ok(config) => {
            findings.push(Finding::ok("variables", "accepted"));
            findings.extend(config.warnings.iter().map(|warning| pod::warning(warning)));
            findings.extend(network::findings(&config).await);
            findings.extend(peers::findings(&config).await);
        }
        Err(mistakes) => findings.extend(mistakes.0.iter().map(pod::mistake)),
    }
    findings.extend(running::findings(admin).await);
    findings
}

/// A line for each check, then the effect and the repair of each fault.
fn text(findings: &[Finding], style: Style) -> String {
    let mut table = Table::new(style);
    for finding in findings {
        let (mark, colour) = match finding.state {
            State::Ok => ("ok", Colour::Green),
            State::Warning => ("warning", Colour::Yellow),
            State::Failed => ("FAILED", Colour::Red),
        };
        table.row([cell(mark).painted(colour), cell(&finding.check), cell(&finding.found)]);
    }
    let mut text = table.to_string();
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    for finding in findings.iter().filter(|finding| finding.state != State::Ok) {
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            "\n{}: {}\n  breaks: {}\n  repair: {}\n",
            finding.check,
            printable(&finding.found),
            printable(&finding.breaks),
            printable(&finding.repair)
        );
    }
    let failed = count(State::Failed);
    let warnings = count(State::Warning);
    let _infallible = writeln!(text, "\n{} checks, {failed} failed, {warnings} warnings", findings.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_its_effect_and_its_repair() {
        let findings = [
            Finding::ok("clock", "2026"),
            Finding::failed("sysctl", "x = 0", "nothing is forwarded", "sysctl -w x=1"),
        ];
        let expected = "\
ok      clock   2026
FAILED  sysctl  x = 0

sysctl: x = 0
  breaks: nothing is forwarded
  repair: sysctl -w x=1

2 checks, 1 failed, 0 warnings
";
        assert_eq!(text(&findings, Style::PLAIN), expected);
    }
}
