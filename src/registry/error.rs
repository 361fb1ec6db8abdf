// SPDX-License-Identifier: Apache-2.0

//! The errors of a registry.

use std::{io, path::PathBuf, time::Duration};

use tonic::{Code, Status};

use crate::transport::DialError;

/// The reason why a call to the registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection to the registry in time. It is down, or refuses our identity; retry.
    #[error("no connection to the registry")]
    Dial(#[from] DialError),
    /// The socket that we listen on cannot be opened. Listen before registering.
    #[error("the socket `{}` cannot be passed", .path.display())]
    Socket {
        /// The socket's file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// No answer in time. Retry.
    #[error("the registry has not answered within {0:?}")]
    Deadline(Duration),
    /// The registration was there, and is lost. It is repeated.
    #[error("the registration is lost: {0}")]
    Lost(String),
    /// The registry refused or failed. Retry, unless the message says otherwise.
    #[error("the registry answered {code:?}: {message}", code = .0.code(), message = .0.message())]
    Status(Box<Status>),
    /// Another client has registered a different network service of this name. Retrying does not
    /// help: align the two configurations, or use another name.
    #[error("network service `{name}` belongs to somebody else and has {thing} {theirs} (ours: {ours})")]
    Differs {
        /// Name of the network service.
        name: String,
        /// The field that differs.
        thing: &'static str,
        /// Its value in the registry.
        theirs: String,
        /// Its value here.
        ours: String,
    },
}

impl Error {
    /// Whether the registry refused us, rather than failed.
    pub fn is_denied(&self) -> bool {
        matches!(self, Error::Status(status) if status.code() == Code::PermissionDenied)
    }

    /// Whether retrying is useless.
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Differs { .. })
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}
