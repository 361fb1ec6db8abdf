// SPDX-License-Identifier: Apache-2.0

//! Dials a peer: socket, mTLS, HTTP/2, with one deadline for all of it.

mod dialer;
mod error;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

pub use self::{dialer::Dialer, error::DialError};
use super::{
    address::{Address, Socket},
    identity::{ALPN, Peer, Svid, Verdict},
    wire::Wire,
};

impl Wire {
    /// Connects to `target` with the identity `svid`. One attempt.
    ///
    /// # Errors
    /// [`DialError`] with the step that failed.
    pub async fn dial(target: &Address, svid: Arc<Svid>, deadline: Instant) -> Result<Self, DialError> {
        Self::dial_pinging(target, svid, deadline, None).await
    }

    /// Like [`dial`](Self::dial); while calls or streams are open, the connection is probed by a
    /// ping each `keepalive`. NSM's Go servers close a connection that pings more often than every
    /// five minutes.
    ///
    /// # Errors
    /// Those of `dial`.
    pub async fn dial_pinging(
        target: &Address,
        svid: Arc<Svid>,
        deadline: Instant,
        keepalive: Option<Duration>,
    ) -> Result<Self, DialError> {
        let late = |_| DialError::Deadline { target: target.clone(), last: None };
        timeout_at(deadline, connect(target, svid, keepalive)).await.map_err(late)?
    }
}

async fn connect(target: &Address, svid: Arc<Svid>, keepalive: Option<Duration>) -> Result<Wire, DialError> {
    let at = || target.clone();
    let verdict = Verdict::default();
    let config = svid.client_config_noting(&verdict)?;
    let socket =
        Socket::connect(target).await.map_err(|source| DialError::Connect { target: at(), source })?;
    let hub = socket.hub();
    // The name is not verified, but TLS needs one. Go's clients use this one over unix sockets.
    let name = ServerName::try_from("localhost").map_err(|_| rustls::Error::UnsupportedNameType)?;
    let tls = TlsConnector::from(config).connect(name, socket).await;
    let tls = tls.map_err(|error| DialError::Handshake { target: at(), source: verdict.in_words(error) })?;
    let session = tls.get_ref().1;
    // rustls completes a handshake without ALPN; only the first call would fail.
    if session.alpn_protocol() != Some(ALPN) {
        return Err(DialError::NotHttp2 { target: at() });
    }
    let peer = Peer::of_chain(session.peer_certificates());
    let peer = peer.map_err(|source| DialError::Leaf { target: at(), source })?;
    let wire = Wire::over(tls, hub, svid, peer, keepalive).await;
    wire.map_err(|source| DialError::Http2 { target: at(), source })
}
