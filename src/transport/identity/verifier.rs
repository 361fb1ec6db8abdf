// SPDX-License-Identifier: Apache-2.0

//! Applies the rules of [`trust`](super::trust) in a handshake, and records which one the peer
//! violated.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::trust::{Trust, Unverified};

/// The reason why the peer of one connection is not trusted, if it is not. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<OnceLock<Unverified>>);

impl Verdict {
    /// The error of a failed handshake as text: which peer violated which rule, and the accepted
    /// values. Errors of TLS itself have neither.
    pub(crate) fn in_words(&self, error: io::Error) -> io::Error {
        let words = match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
            Some(TlsError::InvalidCertificate(_)) => match self.0.get() {
                Some(why) => why.to_string(),
                None => return error,
            },
            Some(TlsError::NoCertificatesPresented) => {
                "the peer showed no certificate (accepted: an X.509 SVID)".into()
            }
            Some(TlsError::NoApplicationProtocol) => "the peer offers no HTTP/2 (accepted: ALPN h2)".into(),
            _ => return error,
        };
        io::Error::new(error.kind(), words)
    }
}

/// Verifier of one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Arc<Trust>,
    pub(super) verdict: Verdict,
}

impl Verifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), TlsError> {
        self.trust.check(leaf, intermediates, now).map_err(|why| {
            let why = self.verdict.0.get_or_init(|| why);
            TlsError::InvalidCertificate(alerting(why))
        })
    }
}

/// The error that makes rustls send the right alert to the peer.
fn alerting(why: &Unverified) -> CertificateError {
    match why {
        Unverified::Expired(_) => CertificateError::Expired,
        Unverified::NotYetValid(_) => CertificateError::NotValidYet,
        why => CertificateError::Other(OtherError(Arc::new(why.clone()))),
    }
}

/// Methods that both traits of rustls share: a signature is checked by the algorithms of the trust.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            verify_tls12_signature(message, leaf, signature, &self.trust.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            verify_tls13_signature(message, leaf, signature, &self.trust.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.trust.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.check(leaf, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

/// The same rules for the client of a connection; it must present a certificate.
impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.check(leaf, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
