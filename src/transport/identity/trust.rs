// SPDX-License-Identifier: Apache-2.0

//! Verify the certificates of peers as SPIFFE wants it: by trust domain, never by host name.
//!
//! 1. The leaf has exactly one URI SAN, a SPIFFE id.
//! 2. The leaf is no CA and may sign neither certificates nor revocation lists.
//! 3. There is a bundle for the trust domain of the id.
//! 4. The chain leads to that bundle and is valid now; any extended key usage will do.

use std::{collections::HashMap, io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use spiffe::TrustDomain;

use super::peer;

/// The bundles of all trust domains that we know.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) anchors: HashMap<TrustDomain, Vec<TrustAnchor<'static>>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate chain is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Rule 1. The peer must present an X.509 SVID.
    #[error("no single SPIFFE id in the certificate")]
    Nameless,
    /// Rule 2. The certificate of an authority was presented as that of a workload.
    #[error("`{0}` may sign certificates, so it is no SVID")]
    Authority(String),
    /// Rule 3. Our side is not federated with this trust domain.
    #[error("no bundle for the trust domain of `{0}`")]
    Foreign(String),
    /// Rule 4, time. The peer has not rotated its SVID, or a clock is wrong.
    #[error("`{0}` has expired")]
    Expired(String),
    /// Rule 4, time. A clock is wrong.
    #[error("`{0}` is not valid yet")]
    NotYetValid(String),
    /// Rule 4. The chain does not lead to the bundle.
    #[error("`{id}` is not of the bundle of its trust domain: {reason}")]
    Untrusted {
        /// SPIFFE id of the leaf.
        id: String,
        /// The verifier's reason.
        reason: webpki::Error,
    },
}

/// Accepts certificates for any purpose.
struct AnyPurpose;

impl webpki::ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, purposes: webpki::KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        for purpose in purposes {
            purpose?;
        }
        Ok(())
    }
}

impl Trust {
    /// Apply the rules to a chain.
    pub(super) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Unverified> {
        let id = spiffe::cert::spiffe_id_from_der(leaf).map_err(|_| Unverified::Nameless)?;
        let certificate = peer::parse(leaf).map_err(|_| Unverified::Nameless)?;
        if certificate.is_ca() || may_sign(&certificate) {
            return Err(Unverified::Authority(id.to_string()));
        }
        let anchors =
            self.anchors.get(id.trust_domain()).ok_or_else(|| Unverified::Foreign(id.to_string()))?;
        let untrusted = |reason| match reason {
            webpki::Error::CertExpired { .. } => Unverified::Expired(id.to_string()),
            webpki::Error::CertNotValidYet { .. } => Unverified::NotYetValid(id.to_string()),
            reason => Unverified::Untrusted { id: id.to_string(), reason },
        };
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(untrusted)?;
        leaf.verify_for_usage(self.algorithms.all, anchors, intermediates, now, AnyPurpose, None, None)
            .map(drop)
            .map_err(untrusted)
    }
}

/// Whether the key may sign certificates or revocation lists. Key usage that cannot be parsed counts as such.
fn may_sign(certificate: &x509_parser::certificate::X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(None) => false,
        Ok(Some(usage)) => usage.value.key_cert_sign() || usage.value.crl_sign(),
        Err(_) => true,
    }
}

impl From<Unverified> for TlsError {
    fn from(why: Unverified) -> Self {
        TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// The error of a handshake that failed, in words: which peer broke which rule, and what is accepted. What TLS itself says of our
/// rules has neither.
pub(crate) fn in_words(error: io::Error) -> io::Error {
    let words = match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(CertificateError::Other(OtherError(why)))) => why.to_string(),
        Some(TlsError::NoCertificatesPresented) => {
            "the peer showed no certificate (accepted: an X.509 SVID)".into()
        }
        Some(TlsError::NoApplicationProtocol) => "the peer offers no HTTP/2 (accepted: ALPN h2)".into(),
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}

impl ServerCertVerifier for Trust {
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

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The same rules for the client of a connection; it must present a certificate.
impl ClientCertVerifier for Trust {
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

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
