// SPDX-License-Identifier: Apache-2.0
//! Reads variables one by one and collects every mistake instead of stopping at the first.

use std::{fmt, path::PathBuf, time::Duration};

use super::{duration::parse_duration, variable::Variable};

/// Maximum length of a value, in bytes.
const MAX_VALUE: usize = 1024;
/// Maximum length of the part of a value shown in a message, in characters.
const MAX_SHOWN: usize = 64;
/// Longest duration that is accepted: one year. It keeps every later sum of times in range.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A variable whose value is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?} is not accepted (accepted: {accepted})")]
pub struct Mistake {
    /// The variable, under the name by which it was set.
    pub variable: &'static str,
    /// Its value, cut to 64 characters, without the credentials of an address.
    pub value: String,
    /// The accepted values.
    pub accepted: String,
}

/// Every mistake in the environment. One line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl Mistakes {
    /// Logs every mistake in a line of its own.
    pub(crate) fn log(&self) {
        for Mistake { variable, value, accepted } in &self.0 {
            tracing::error!(critical = true, variable, value, accepted, "variable not accepted");
        }
    }
}

impl std::error::Error for Mistakes {}

/// Looks up a variable by name; `None` means unset.
pub(crate) trait Get: Fn(&str) -> Option<String> {}

impl<F: Fn(&str) -> Option<String>> Get for F {}

/// Looks variables up with a given function and collects the mistakes.
pub(crate) struct Reader<G> {
    get: G,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl<G: Get> Reader<G> {
    pub(crate) fn new(get: G) -> Self {
        Self { get, mistakes: Vec::new(), warnings: Vec::new() }
    }

    /// The value read, if there was no mistake.
    pub(crate) fn finish<T>(self, read: T) -> Result<T, Mistakes> {
        if self.mistakes.is_empty() { Ok(read) } else { Err(Mistakes(self.mistakes)) }
    }

    /// The warnings about accepted values so far.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Adds a warning about the value of a variable, which is shown as in a mistake.
    pub(crate) fn warn(&mut self, variable: Variable, text: impl fmt::Display) {
        let (name, value) = self.raw(variable);
        let value = shown(&value);
        self.warnings.push(format!("{name}={value:?} {text}"));
    }

    /// The name by which a variable is set, and its value or its default.
    pub(crate) fn raw(&self, variable: Variable) -> (&'static str, String) {
        let set = |name: &'static str| {
            Some((name, (self.get)(name).filter(|value| !(variable.empty_is_unset && value.is_empty()))?))
        };
        set(variable.name)
            .or_else(|| set(variable.alias?))
            .unwrap_or_else(|| (variable.name, variable.default.to_owned()))
    }

    /// The value as parsed by `parse`; otherwise a mistake, and a default that never leaves
    /// [`finish`](Self::finish).
    pub(crate) fn value<T: Default>(
        &mut self,
        variable: Variable,
        accepted: impl fmt::Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        self.value_or(variable, accepted, T::default, parse)
    }

    /// Like [`value`](Self::value), with an explicit default.
    pub(crate) fn value_or<T>(
        &mut self,
        variable: Variable,
        accepted: impl fmt::Display,
        stand_in: impl FnOnce() -> T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let (name, value) = self.raw(variable);
        let parsed = if value.len() <= MAX_VALUE { parse(&value) } else { None };
        parsed.unwrap_or_else(|| {
            let value = shown(&value);
            self.mistakes.push(Mistake { variable: name, value, accepted: accepted.to_string() });
            stand_in()
        })
    }

    /// The value as parsed by `parse`; otherwise a warning that names the behaviour used `instead`.
    /// Such a mistake must not prevent the start.
    pub(crate) fn lenient<T>(
        &mut self,
        variable: Variable,
        accepted: &str,
        instead: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (_, value) = self.raw(variable);
        let parsed = if value.len() <= MAX_VALUE { parse(&value) } else { None };
        if parsed.is_none() {
            self.warn(variable, format_args!("is not accepted (accepted: {accepted}); {instead}"));
        }
        parsed
    }

    /// A name that becomes part of ids, labels or file names.
    pub(crate) fn name(&mut self, variable: Variable) -> String {
        let accepted = "1 to 253 letters, digits, `-`, `_` and `.`, not `.` or `..`";
        self.value(variable, accepted, |text| is_name(text).then(|| text.to_owned()))
    }

    /// A duration of at least `least` and at most a year.
    pub(crate) fn duration(&mut self, variable: Variable, least: Duration) -> Duration {
        let least_shown = if least.is_zero() { "0s" } else { "1ms" };
        let accepted = format!("a Go duration such as 5s or 1m30s, from {least_shown} to 8760h");
        self.value(variable, accepted, |text| {
            let nanos = u64::try_from(parse_duration(text).ok()?).ok()?;
            Some(Duration::from_nanos(nanos)).filter(|length| (least..=MAX_DURATION).contains(length))
        })
    }
}

fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && text != "."
        && text != ".."
}

/// An address without the credentials before its host.
pub(crate) fn without_user(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((_, host))) => format!("…@{host}"),
        _ => address.to_owned(),
    }
}

/// The beginning of a value, without the credentials of an address.
fn shown(value: &str) -> String {
    let public = without_user(value);
    match public.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &public[..end]),
        None => public,
    }
}

/// The values that [`absolute`] accepts.
pub(crate) const ABSOLUTE: &str = "the absolute path of a file";

/// An absolute path; `None` if the text is empty.
pub(crate) fn absolute(text: &str) -> Option<Option<PathBuf>> {
    (text.is_empty() || text.starts_with('/')).then(|| (!text.is_empty()).then(|| text.into()))
}
