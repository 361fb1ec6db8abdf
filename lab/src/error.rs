// SPDX-License-Identifier: Apache-2.0
//! The error of a failed operation of the lab.

/// An operation that the lab needs has failed. The lab stops; nothing is left.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct LabError {
    /// The failed operation.
    pub doing: String,
    /// Why it failed.
    pub source: tower::BoxError,
}

/// Adds the operation to an error.
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
