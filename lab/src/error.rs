// SPDX-License-Identifier: Apache-2.0
//! Say what the lab could not do.

/// Something the lab needs could not be done. The lab stops; nothing is left.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct LabError {
    /// What was tried.
    pub doing: String,
    /// Why it failed.
    pub source: tower::BoxError,
}

/// Give an error what was being done.
pub trait Doing<T> {
    /// `what` completes the sentence "cannot …".
    ///
    /// # Errors
    /// The error of the result, with `what`.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T, E: Into<tower::BoxError>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|error| LabError { doing: what(), source: error.into() })
    }
}
