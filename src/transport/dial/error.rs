// SPDX-License-Identifier: Apache-2.0

//! The step of a dial that failed, and whether another attempt may help.

use std::io::{self, ErrorKind};

use tonic::Status;

use crate::{
    chain::causes,
    transport::{
        address::Address,
        identity::{InvalidLeaf, NoIdentity},
    },
};

/// The reason why a peer could not be dialled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There was no identity by the deadline. Its source has the last result of the Workload API.
    #[error("cannot dial without an identity")]
    Identity(#[from] NoIdentity),
    /// The socket is missing or refuses, or the host is unknown. The peer does not run (yet).
    #[error("cannot connect to {address}")]
    Connect {
        /// The address.
        address: Address,
        /// The error of the socket.
        source: io::Error,
    },
    /// TLS failed: the peer went away in the middle, or its certificate is not trusted.
    #[error("TLS handshake with {address} failed")]
    Handshake {
        /// The address.
        address: Address,
        /// The error of TLS; if a certificate is refused, it names the rule.
        source: io::Error,
    },
    /// The peer did not choose HTTP/2. It does not speak gRPC.
    #[error("{address} did not choose HTTP/2 (accepted: ALPN h2)")]
    NotHttp2 {
        /// The address.
        address: Address,
    },
    /// The peer's certificate is not an SVID.
    #[error("{address} presented no SVID")]
    Leaf {
        /// The address.
        address: Address,
        /// The reason.
        source: InvalidLeaf,
    },
    /// HTTP/2 failed right after TLS.
    #[error("HTTP/2 with {address} failed")]
    Http2 {
        /// The address.
        address: Address,
        /// The error of HTTP/2.
        source: hyper::Error,
    },
    /// No TLS configuration could be built from the SVID.
    #[error("no TLS configuration from the SVID")]
    Config(#[from] rustls::Error),
    /// The deadline passed. The peer was silent, or each attempt failed.
    #[error("{address} was not reached by the deadline")]
    Deadline {
        /// The address.
        address: Address,
        /// The error of the last attempt, if one had failed.
        #[source]
        last: Option<Box<DialError>>,
    },
}

impl DialError {
    /// Whether another attempt may succeed without a change of configuration.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } => {
                !matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput)
            }
            // A refusal by TLS itself is permanent; an error of the socket may be temporary.
            Self::Handshake { source, .. } => source.kind() != ErrorKind::InvalidData,
            Self::Http2 { .. } | Self::Deadline { .. } => true,
            Self::Identity(_) | Self::NotHttp2 { .. } | Self::Leaf { .. } | Self::Config(_) => false,
        }
    }
}

/// `DeadlineExceeded` or `Unavailable`, with all causes in the message.
impl From<DialError> for Status {
    fn from(error: DialError) -> Self {
        let text = causes(&error);
        match error {
            DialError::Deadline { .. } => Status::deadline_exceeded(text),
            _ => Status::unavailable(text),
        }
    }
}
