// SPDX-License-Identifier: Apache-2.0

//! An environment variable with its default and its meaning.

/// An environment variable of a program.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// Name, as in the pod's manifest.
    pub name: &'static str,
    /// A second name that is used when the first is unset.
    pub alias: Option<&'static str>,
    /// Value of an unset variable, as text. Empty means none.
    pub default: &'static str,
    /// Its effect, in one line.
    pub meaning: &'static str,
    /// Whether this program parses it. The others are read by the OpenTelemetry SDK, by its
    /// specification.
    pub parsed: bool,
    /// Whether a value that is not accepted only causes a warning, and the default is used.
    pub lenient: bool,
    /// Whether an empty value counts as unset, as in OpenTelemetry's specification.
    pub empty_is_unset: bool,
}

impl Variable {
    /// A variable with a default.
    pub const fn new(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { name, alias: None, default, meaning, parsed: true, lenient: false, empty_is_unset: false }
    }

    /// Sets a second name.
    #[must_use]
    pub const fn or(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    /// A variable of which a value that is not accepted only causes a warning.
    pub const fn lenient(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { lenient: true, ..Self::new(name, default, meaning) }
    }

    /// The same, by OpenTelemetry's specification.
    pub const fn of_otel(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { empty_is_unset: true, ..Self::lenient(name, default, meaning) }
    }

    /// A variable that the OpenTelemetry SDK reads.
    pub const fn of_sdk(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { parsed: false, ..Self::new(name, default, meaning) }
    }
}
