// SPDX-License-Identifier: Apache-2.0

//! Texts that are made of the definitions of the commands and of the variables.

use std::fmt::Write;

use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::definition::{PROGRAM, definition};
use crate::proxy::config::{VARIABLES, Variable};

/// The completion script of a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), PROGRAM, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page in roff: the commands, and the variables as its section ENVIRONMENT.
pub(super) fn man() -> String {
    let mut page = Vec::new();
    // Writing to a Vec cannot fail.
    let _infallible = Man::new(definition()).render(&mut page);
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]);
    for variable in VARIABLES {
        section.control("TP", []);
        section.text([bold(variable.name), roman(names_and_default(variable))]);
        section.text([roman(variable.meaning)]);
    }
    let _infallible = section.to_writer(&mut page);
    String::from_utf8_lossy(&page).into_owned()
}

/// The variables, each with its second name, its default and its meaning.
pub(super) fn variables() -> String {
    let mut text = String::new();
    for variable in VARIABLES {
        let more = names_and_default(variable);
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{}{more}\n    {}", variable.name, variable.meaning);
    }
    text
}

fn names_and_default(variable: &Variable) -> String {
    let or = variable.alias.map(|alias| format!(" (or {alias})")).unwrap_or_default();
    let default = Some(variable.default).filter(|default| !default.is_empty());
    or + &default.map(|default| format!(" [{default}]")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_variable_is_listed_with_its_default_and_other_name() {
        let text = variables();
        for variable in VARIABLES {
            let line = text.lines().find(|line| line.split(' ').next() == Some(variable.name));
            let line = line.unwrap_or_else(|| panic!("{} is missing", variable.name));
            assert!(
                variable.default.is_empty() || line.ends_with(&format!("[{}]", variable.default)),
                "{line}"
            );
            assert!(variable.alias.is_none_or(|alias| line.contains(&format!("(or {alias})"))), "{line}");
            assert!(text.contains(&format!("{line}\n    {}\n", variable.meaning)));
        }
    }

    #[test]
    fn the_manual_page_has_every_command_and_variable() {
        let page = man().replace('\\', "");
        for command in definition().get_subcommands() {
            assert!(page.contains(&format!("proxy-{}(1)", command.get_name())), "{}", command.get_name());
        }
        for variable in VARIABLES {
            assert!(page.contains(variable.name), "{}", variable.name);
        }
        assert!(page.contains(".TH proxy 1"));
    }

    #[test]
    fn the_completions_of_every_shell_have_every_command() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for command in definition().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
