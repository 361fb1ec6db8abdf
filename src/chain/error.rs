// SPDX-License-Identifier: Apache-2.0

//! The error type of all chains: a reason from an element, plus the element's name and the
//! connection id, which the chain adds.

use std::fmt;

use tonic::{Code, Status};
use tower::BoxError;

/// Result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a call. One pointer wide to keep `Result` small.
///
/// ```
/// use nsm::{chain::{Error, Reason}, tonic::Code};
///
/// let error = Error::from(Reason::Invalid("the MTU is 0 (accepted: from 68)".into()));
/// assert_eq!(error.code(), Code::InvalidArgument);
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    row: Option<&'static str>,
    id: Option<String>,
}

/// The reason why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The deadline passed while queued or in progress. The caller may retry.
    #[error("deadline passed")]
    Deadline,
    /// A row that limits calls has no room for this one. Retry later.
    #[error("too many calls wait")]
    Overloaded,
    /// The connection has ended or is closing, or the task that fired the event has ended. Do not
    /// retry.
    #[error("connection has ended")]
    Ended,
    /// An event of this kind is already queued. Do not retry.
    #[error("an event of this kind waits already")]
    Pending,
    /// An element or a peer refused the call. A retry may not help.
    #[error("{0}")]
    Refused(String),
    /// The caller is not authorized. Do not retry with the same identity.
    #[error("{0}")]
    Denied(String),
    /// The call is malformed. The text names the field, its value and the accepted values.
    #[error("{0}")]
    Invalid(String),
    /// A pool is exhausted or a bound is exceeded. Retry later, or ask for less.
    #[error("{0}")]
    Exhausted(String),
    /// A dependency of this call is not available yet. Retry later.
    #[error("{0}")]
    Unavailable(String),
    /// An element panicked. This is a bug.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The next hop answered with a gRPC status; its code is passed on.
    #[error("{code:?}: {message}", code = .0.code(), message = .0.message())]
    Status(Box<tonic::Status>),
    /// Any other error, from a tower layer or from the transport.
    #[error("failed")]
    Other(#[source] BoxError),
}

impl Error {
    /// The reason.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// Name of the element in which the error arose.
    pub fn row(&self) -> Option<&'static str> {
        self.0.row
    }

    /// The gRPC status code for this error: the one table from reason to status.
    pub fn code(&self) -> Code {
        match self.reason() {
            Reason::Deadline => Code::DeadlineExceeded,
            Reason::Overloaded | Reason::Pending | Reason::Exhausted(_) => Code::ResourceExhausted,
            Reason::Denied(_) => Code::PermissionDenied,
            Reason::Invalid(_) => Code::InvalidArgument,
            Reason::Unavailable(_) => Code::Unavailable,
            Reason::Panicked(_) => Code::Internal,
            Reason::Status(status) => status.code(),
            Reason::Ended | Reason::Refused(_) | Reason::Other(_) => Code::Unknown,
        }
    }

    /// Adds the name of the element. The innermost element wins.
    pub(crate) fn at(mut self, row: &'static str) -> Self {
        self.0.row.get_or_insert(row);
        self
    }

    pub(crate) fn of(mut self, id: &str) -> Self {
        self.0.id.get_or_insert_with(|| id.to_owned());
        self
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self(Box::new(Inner { reason, row: None, id: None }))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Reason::Status(Box::new(status)).into()
    }
}

/// The message is the error with all its sources, so that the text reaches the caller's log.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Status::new(error.code(), message)
    }
}

/// Recognises [`Error`], a gRPC status, and tower's timeout and load-shed errors; anything else
/// becomes [`Reason::Other`].
impl From<BoxError> for Error {
    fn from(error: BoxError) -> Self {
        match error.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) if other.is::<tower::timeout::error::Elapsed>() => Reason::Deadline.into(),
            Err(other) if other.is::<tower::load_shed::error::Overloaded>() => Reason::Overloaded.into(),
            Err(other) => match other.downcast::<Status>() {
                Ok(status) => Reason::Status(status).into(),
                Err(other) => Reason::Other(other).into(),
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = self.0.row {
            write!(f, "{row}: ")?;
        }
        write!(f, "{}", self.0.reason)?;
        if let Some(id) = &self.0.id {
            write!(f, " [{id}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.reason.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_status() {
        let text = || String::from("why");
        let table = [
            (Reason::Deadline, Code::DeadlineExceeded),
            (Reason::Overloaded, Code::ResourceExhausted),
            (Reason::Ended, Code::Unknown),
            (Reason::Pending, Code::ResourceExhausted),
            (Reason::Refused(text()), Code::Unknown),
            (Reason::Denied(text()), Code::PermissionDenied),
            (Reason::Invalid(text()), Code::InvalidArgument),
            (Reason::Exhausted(text()), Code::ResourceExhausted),
            (Reason::Unavailable(text()), Code::Unavailable),
            (Reason::Panicked(text()), Code::Internal),
            (Reason::Status(Box::new(Status::aborted("why"))), Code::Aborted),
            (Reason::Other("why".into()), Code::Unknown),
        ];
        for (reason, code) in table {
            let error = Error::from(reason);
            assert_eq!(error.code(), code, "{error}");
        }
    }

    #[test]
    fn a_status_has_the_row_the_reason_and_the_connection() {
        let cause: BoxError = "no route to host".into();
        let status = Status::from(Error::from(Reason::Other(cause)).at("connect").of("lb-1"));
        assert_eq!(status.message(), "connect: failed [lb-1]: no route to host");
    }

    #[test]
    fn a_status_in_a_box_keeps_its_code() {
        let boxed: BoxError = Box::new(Status::permission_denied("no"));
        let error = Error::from(boxed);
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (Code::PermissionDenied, "PermissionDenied: no")
        );
    }
}
