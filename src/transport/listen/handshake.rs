// SPDX-License-Identifier: Apache-2.0

//! Authenticates a peer by its SVID, and takes a place for its connection.

use std::{io, sync::Arc};

use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;

use super::{
    Accepted, HANDSHAKE_TIMEOUT,
    room::{Full, PeerKey, Room},
    socket::Incoming,
};
use crate::transport::{
    address::Socket,
    caller::Caller,
    fd::Receives,
    identity::{ALPN, Identity, InvalidLeaf, Peer, Verdict},
};

/// The reason why a connection is closed before its first call.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("there is no identity to show yet")]
    NoIdentity,
    #[error("no TLS configuration from the SVID")]
    Config(#[from] rustls::Error),
    #[error("TLS handshake failed")]
    Tls(#[from] io::Error),
    #[error("the peer did not choose HTTP/2 (accepted: ALPN h2)")]
    NotHttp2,
    #[error("the peer showed no SVID")]
    Leaf(#[from] InvalidLeaf),
    #[error("the handshake took longer than {HANDSHAKE_TIMEOUT:?}")]
    Slow,
    #[error("{0} connections wait for their handshake (at most {0}), and this one is silent")]
    Silent(usize),
    #[error("{0} connections wait for their handshake (at most {0}), and this one takes the longest")]
    Slowest(usize),
    #[error("no place is free")]
    Full(#[from] Full),
}

/// A connection with its place, and the peer of the one that was closed for it; or the reason of
/// the rejection.
pub(super) type HandshakeResult = Result<(Accepted, Option<PeerKey>), Rejected>;

/// Completes handshakes. Clones share the listener.
#[derive(Clone)]
pub(super) struct Handshakes {
    /// Our identity; `None` if peers need not be authenticated.
    pub(super) identity: Option<Identity>,
    pub(super) room: Arc<Room>,
    /// Whether descriptors are received once a peer is authenticated.
    pub(super) descriptors: bool,
}

impl Handshakes {
    /// Completes a handshake by a deadline, with the SVID of this moment. `own`: the peer is this
    /// process.
    pub(super) async fn shake(self, arrived: Incoming, own: bool, deadline: Instant) -> HandshakeResult {
        timeout_at(deadline, self.accept(arrived, own)).await.unwrap_or(Err(Rejected::Slow))
    }

    async fn accept(self, Incoming { socket, pid }: Incoming, own: bool) -> HandshakeResult {
        let (stream, caller, who) = match &self.identity {
            None => (Either::Right(socket), None, PeerKey::Process(pid)),
            Some(identity) => {
                if let (true, Some(hub)) = (self.descriptors, socket.hub()) {
                    hub.receive(Receives::Later);
                }
                let (tls, caller) = secured(socket, identity).await?;
                if let (true, Some(hub)) = (self.descriptors, &caller.hub) {
                    hub.keep_received();
                }
                let who = PeerKey::Svid(Arc::clone(&caller.peer));
                (Either::Left(tls), Some(caller), who)
            }
        };
        let (seat, displaced) = self.room.enter(who, own).await?;
        Ok((Accepted { stream, caller, seat }, displaced))
    }
}

/// Both sides present their SVIDs.
async fn secured(socket: Socket, identity: &Identity) -> Result<(TlsStream<Socket>, Caller), Rejected> {
    let svid = identity.current().ok_or(Rejected::NoIdentity)?;
    let hub = socket.hub();
    let verdict = Verdict::default();
    let config = svid.server_config_noting(&verdict)?;
    let tls = TlsAcceptor::from(config).accept(socket).await.map_err(|error| verdict.in_words(error))?;
    let session = tls.get_ref().1;
    if session.alpn_protocol() != Some(ALPN) {
        return Err(Rejected::NotHttp2);
    }
    let peer = Arc::new(Peer::of_chain(session.peer_certificates())?);
    Ok((tls, Caller { hub, svid, peer, token: None }))
}
