// SPDX-License-Identifier: Apache-2.0
//! The value of a variable, as it may be shown.

use serde::{Deserialize, Serialize};

use super::variables::{self as var, VARIABLES};
use crate::app::config::{Get, Reader, Variable, without_user};

/// Maximum length of a value, in characters; the rest is cut.
const MAX_SHOWN: usize = 512;
/// Variables whose values are secrets.
const HEADERS: [Variable; 2] = [var::OTLP_HEADERS, var::METRICS_HEADERS];
/// Stands for a secret.
const MASK: &str = "(hidden)";

/// A variable with its value, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Setting {
    /// The name by which it is set; its first name if it is not set.
    pub name: String,
    /// Its value, or its default. Headers of exporters and credentials of addresses are hidden.
    pub value: String,
    /// Whether the value is the default.
    pub default: bool,
}

impl Setting {
    /// Every variable, in the order of the table.
    pub(crate) fn all(get: impl Fn(&str) -> Option<String>) -> Vec<Self> {
        let reader = Reader::new(get);
        VARIABLES.iter().map(|variable| Self::read(&reader, *variable)).collect()
    }

    fn read(reader: &Reader<impl Get>, variable: Variable) -> Self {
        let (name, value) = reader.raw(variable);
        let default = value == variable.default;
        let value = match name {
            _ if value.is_empty() => value,
            name if HEADERS.iter().any(|of| [Some(of.name), of.alias].contains(&Some(name))) => {
                MASK.to_owned()
            }
            _ => without_user(&value).chars().take(MAX_SHOWN).collect(),
        };
        Self { name: name.to_owned(), value, default }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_without_secrets() {
        let settings = Setting::all(|name| {
            let value = match name {
                "OTEL_EXPORTER_OTLP_METRICS_HEADERS" => "x-key=s3cret",
                "OTEL_EXPORTER_OTLP_HEADERS" => "authorization=Bearer s3cret",
                "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://user:s3cret@collector:4317",
                "NSM_MTU" => "9000",
                _ => return None,
            };
            Some(value.to_owned())
        });
        assert_eq!(settings.len(), VARIABLES.len());
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        let of = |name| settings.iter().find(|setting| setting.name == name).unwrap();
        assert_eq!((of("NSM_MTU").value.as_str(), of("NSM_MTU").default), ("9000", false));
        assert_eq!((of("NSM_TRENCH").value.as_str(), of("NSM_TRENCH").default), ("default", true));
        assert_eq!(of("OTEL_EXPORTER_OTLP_HEADERS").value, super::MASK);
        assert_eq!(of("OTEL_EXPORTER_OTLP_ENDPOINT").value, "http://…@collector:4317");
    }
}
