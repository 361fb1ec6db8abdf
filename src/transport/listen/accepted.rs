// SPDX-License-Identifier: Apache-2.0

//! An accepted connection, with the state that its calls need.

use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::Seat;
use crate::transport::{address::Socket, caller::Caller};

/// A connection to be served.
pub struct Accepted {
    /// Its bytes, with or without TLS.
    pub stream: Either<TlsStream<Socket>, Socket>,
    /// The caller, for the extensions of each of its calls; `None` without TLS.
    pub caller: Option<Caller>,
    /// Its place among the connections of its listener. It outlives `stream`.
    pub seat: Seat,
}
