// SPDX-License-Identifier: Apache-2.0

//! Formats an error with all its causes on one line, for statuses and logs.

use std::error::Error;

/// The text of an error, then of each of its sources that it does not repeat already.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layered {
        text: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    }

    fn layers(texts: &[&'static str]) -> Layered {
        let source: Option<Box<dyn Error + Send + Sync>> = match texts {
            [_] => Some(Box::new(io::Error::other("refused (os error 1)"))),
            [_, rest @ ..] => Some(Box::new(layers(rest))),
            [] => None,
        };
        Layered { text: texts.first().copied().unwrap_or_default(), source }
    }

    #[test]
    fn every_cause_is_written_once() {
        let table: &[(&[&'static str], &str)] = &[
            (&["cannot dial"], "cannot dial: refused (os error 1)"),
            (&["cannot dial", "TCP", "TCP"], "cannot dial: TCP: refused (os error 1)"),
            (&["TCP: refused (os error 1)", "TCP"], "TCP: refused (os error 1)"),
            (&["dial: refused (os error 1) at a:1", "TCP"], "dial: refused (os error 1) at a:1: TCP"),
            (&["dial", ""], "dial: refused (os error 1)"),
        ];
        for (texts, expected) in table {
            assert_eq!(causes(&layers(texts)), *expected);
        }
    }
}
