// SPDX-License-Identifier: Apache-2.0

//! Let a peer show its SVID.

use std::{io, sync::Arc};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tokio_rustls::TlsAcceptor;
use tracing::warn;

use super::{Accepted, HANDSHAKE_TIMEOUT};
use crate::transport::{
    caller::Caller,
    causes,
    identity::{ALPN, InvalidLeaf, Peer, Svid, Verdict},
    target::Socket,
};

/// Why a connection is closed before its first call.
#[derive(Debug, thiserror::Error)]
enum Rejected {
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
}

/// Complete a handshake as `svid`; `None`, and a line in the log, if the connection is rejected.
pub(super) async fn shake(
    socket: Socket,
    svid: Option<Arc<Svid>>,
    permit: OwnedSemaphorePermit,
) -> Option<Accepted> {
    let result = match svid {
        None => Err(Rejected::NoIdentity),
        Some(svid) => {
            timeout(HANDSHAKE_TIMEOUT, accept(socket, svid, permit)).await.unwrap_or(Err(Rejected::Slow))
        }
    };
    result.inspect_err(|why| warn!(reason = causes(why), "connection rejected")).ok()
}

async fn accept(socket: Socket, svid: Arc<Svid>, permit: OwnedSemaphorePermit) -> Result<Accepted, Rejected> {
    let hub = socket.hub();
    let verdict = Verdict::default();
    let config = svid.server_config_noting(&verdict)?;
    let tls = TlsAcceptor::from(config).accept(socket).await.map_err(|error| verdict.in_words(error))?;
    let session = tls.get_ref().1;
    if session.alpn_protocol() != Some(ALPN) {
        return Err(Rejected::NotHttp2);
    }
    let peer = Arc::new(Peer::of_chain(session.peer_certificates())?);
    Ok(Accepted { tls, caller: Caller { hub, svid, peer, token: None }, _permit: permit })
}
