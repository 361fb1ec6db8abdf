// SPDX-License-Identifier: Apache-2.0

//! The caller of a call and its connection, for the elements of a chain.

use std::sync::Arc;

use tonic::{Request, Status};

use super::{
    fd::FdHub,
    identity::{Peer, Svid},
    token::Token,
};

/// The caller of one call, in the extensions of its context.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Descriptors beside the call's connection; `None` over TCP.
    pub hub: Option<Arc<FdHub>>,
    /// The SVID that the caller verified: tokens of the answer are signed with it.
    pub svid: Arc<Svid>,
    /// The caller's identity, from the certificate of the connection.
    pub peer: Arc<Peer>,
    /// The caller's token, not verified; `None` if it sent none, or one that cannot be parsed.
    pub token: Option<Token>,
}

impl Caller {
    /// The caller of a request that arrived over a [`Listener`](super::listen::Listener).
    ///
    /// As in NSM, malformed token metadata counts as none: an element that needs the token then
    /// refuses the call.
    ///
    /// # Errors
    /// `Internal` if the request came another way.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let connection: &Caller = request
            .extensions()
            .get()
            .ok_or_else(|| Status::internal("the call came over no connection of ours"))?;
        let token = Token::of_call(request.metadata()).unwrap_or_else(|malformed| {
            tracing::warn!(
                peer = connection.peer.id(),
                reason = malformed.message(),
                "token of a call ignored"
            );
            None
        });
        Ok(Self { token, ..connection.clone() })
    }
}
