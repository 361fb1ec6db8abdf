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
    /// Connects to `address` with the identity `svid`. One attempt.
    ///
    /// # Errors
    /// [`DialError`] with the step that failed.
    pub async fn dial(address: &Address, svid: Arc<Svid>, deadline: Instant) -> Result<Self, DialError> {
        Self::dial_pinging(address, svid, deadline, None).await
    }

    /// Like [`dial`](Self::dial); while calls or streams are open, the connection is probed by a
    /// ping each `keepalive`. NSM's Go servers close a connection that pings more often than every
    /// five minutes.
    ///
    /// # Errors
    /// Those of `dial`.
    pub async fn dial_pinging(
        address: &Address,
        svid: Arc<Svid>,
        deadline: Instant,
        keepalive: Option<Duration>,
    ) -> Result<Self, DialError> {
        timeout_at(deadline, connect(address, svid, keepalive))
            .await
            .map_err(|_| DialError::Deadline { address: address.clone(), last: None })?
    }
}

async fn connect(address: &Address, svid: Arc<Svid>, keepalive: Option<Duration>) -> Result<Wire, DialError> {
    let at = || address.clone();
    let verdict = Verdict::default();
    let config = svid.client_config_noting(&verdict)?;
    let socket =
        Socket::connect(address).await.map_err(|source| DialError::Connect { address: at(), source })?;
    let hub = socket.hub();
    // The name is not verified, but TLS needs one. Go's clients use this one over unix sockets.
    let name = ServerName::try_from("localhost").map_err(|_| rustls::Error::UnsupportedNameType)?;
    let tls = TlsConnector::from(config).connect(name, socket).await;
    let tls = tls.map_err(|error| DialError::Handshake { address: at(), source: verdict.in_words(error) })?;
    let session = tls.get_ref().1;
    // rustls completes a handshake without ALPN; only the first call would fail.
    if session.alpn_protocol() != Some(ALPN) {
        return Err(DialError::NotHttp2 { address: at() });
    }
    let peer = Peer::of_chain(session.peer_certificates());
    let peer = peer.map_err(|source| DialError::Leaf { address: at(), source })?;
    let wire = Wire::over(tls, hub, svid, peer, keepalive).await;
    wire.map_err(|source| DialError::Http2 { address: at(), source })
}
