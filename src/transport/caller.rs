// SPDX-License-Identifier: Apache-2.0

//! Tell the elements who called, over which connection.

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
    /// The SVID that the caller saw: tokens of the answer are signed with it.
    pub svid: Arc<Svid>,
    /// Who called, from the certificate of the connection.
    pub peer: Arc<Peer>,
    /// The caller's token, not verified; `None` if it sent none, or one that cannot be read.
    pub token: Option<Token>,
}

impl Caller {
    /// The caller of a request that arrived over a [`Listener`](super::listen::Listener).
    ///
    /// Malformed token metadata is as good as none, as NSM has it: who needs the token then refuses the call.
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
