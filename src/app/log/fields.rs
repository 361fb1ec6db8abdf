// SPDX-License-Identifier: Apache-2.0
//! Records the fields of events and spans as JSON.
//!
//! Texts are cut to 2 KiB, because a peer may have written them.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

use crate::chain::causes;

/// Maximum length of a field's text, in bytes.
pub(super) const MAX_TEXT: usize = 2048;

/// Recorded fields. A name always has one JSON type: numbers and booleans as such, all others as
/// text.
#[derive(Default)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    /// Names with a prefix such as `otel.` are for the exporter.
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        if !field.name().starts_with("otel.") {
            self.0.insert(field.name().to_owned(), value.into());
        }
    }

    fn set_text(&mut self, field: &Field, value: &dyn fmt::Display) {
        let mut text = Cut(String::new());
        if write!(text, "{value}").is_err() {
            text.0.push('…');
        }
        self.set(field, text.0);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(field, &value);
    }

    /// An error is written with its sources, because its `Display` does not repeat them.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set_text(field, &causes(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_text(field, &format_args!("{value:?}"));
    }
}

/// A text that does not grow beyond [`MAX_TEXT`].
struct Cut(String);

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_TEXT - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}
