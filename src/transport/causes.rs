// SPDX-License-Identifier: Apache-2.0

//! Write an error with all its causes on one line, for statuses and logs.

use std::error::Error;

/// The text of an error, then of each of its sources that is not in it already.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
