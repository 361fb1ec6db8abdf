// SPDX-License-Identifier: Apache-2.0

//! TLS clients that do not prove their identity.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, HandshakeKind, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::PrivatePkcs8KeyDer,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_rustls::TlsConnector;

use super::Issued;
use crate::transport::Svid;

#[derive(Debug)]
struct Anonymous;

impl ResolvesClientCert for Anonymous {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A TLS client whose identity is spoilt. It begins as that of an [`Svid`].
#[derive(Clone, Debug)]
pub struct Stranger(ClientConfig);

impl Stranger {
    /// A client that is not spoilt yet.
    pub fn of(svid: &Svid) -> Self {
        Self((*svid.client_config().unwrap()).clone())
    }

    /// Presents no certificate.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.0.client_auth_cert_resolver = Arc::new(Anonymous);
        self
    }

    /// Presents this certificate.
    #[must_use]
    pub fn showing(mut self, issued: &Issued) -> Self {
        let key = PrivatePkcs8KeyDer::from(issued.key.clone()).into();
        let provider = rustls::crypto::ring::default_provider();
        let certificate = vec![issued.certificate.clone().into()];
        let shown = CertifiedKey::from_der(certificate, key, &provider).unwrap();
        self.0.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
        self
    }

    /// Offers only HTTP/1.1.
    #[must_use]
    pub fn without_http2(mut self) -> Self {
        self.0.alpn_protocols = vec![b"http/1.1".to_vec()];
        self
    }

    /// Resumes sessions.
    #[must_use]
    pub fn resuming(mut self) -> Self {
        self.0.resumption = rustls::client::Resumption::in_memory_sessions(8);
        self
    }

    /// Connects, sends the begin of HTTP/2, and reads until the server sends a byte or closes.
    ///
    /// # Errors
    /// The server has refused the handshake, or closed.
    pub async fn connect(&self, socket: &Path) -> io::Result<HandshakeKind> {
        let stream = UnixStream::connect(socket).await?;
        let name = "localhost".try_into().unwrap();
        let mut tls = TlsConnector::from(Arc::new(self.0.clone())).connect(name, stream).await?;
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        match tls.read(&mut [0]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(tls.get_ref().1.handshake_kind().unwrap()),
        }
    }
}
