// SPDX-License-Identifier: Apache-2.0

//! Hand an accepted connection to the server, with what its calls need to know of it.

use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::Seat;
use crate::transport::{caller::Caller, target::Socket};

/// A connection to be served.
pub struct Accepted {
    /// Its bytes: within TLS, or as they are.
    pub stream: Either<TlsStream<Socket>, Socket>,
    /// Who calls, for the extensions of each of its calls; `None` without TLS.
    pub caller: Option<Caller>,
    /// Its place among the connections of its listener. It outlives `stream`.
    pub seat: Seat,
}
