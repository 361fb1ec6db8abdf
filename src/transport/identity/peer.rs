// SPDX-License-Identifier: Apache-2.0

//! Reads the identity of a TLS peer from its leaf certificate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use x509_parser::{parse_x509_certificate, prelude::X509Certificate};

/// The other side of a TLS connection, from its leaf certificate. The handshake has verified the
/// certificate.
#[derive(Clone, Debug)]
pub struct Peer {
    id: String,
    not_after: SystemTime,
    key: Vec<u8>,
}

/// A leaf certificate that is not an X.509 SVID.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLeaf {
    /// The peer sent no certificate. It must present its SVID.
    #[error("no certificate (accepted: an X.509 SVID)")]
    Missing,
    /// The certificate cannot be parsed.
    #[error("not an X.509 certificate")]
    Malformed,
    /// The certificate does not name exactly one SPIFFE id.
    #[error("no SPIFFE id in the certificate (accepted: exactly one URI SAN, a SPIFFE id)")]
    Nameless(#[source] spiffe::cert::error::CertificateError),
}

impl Peer {
    /// The peer with this leaf certificate (DER). Does not verify the certificate.
    ///
    /// # Errors
    /// [`InvalidLeaf`] if it is not an X.509 SVID.
    pub fn of(leaf: &[u8]) -> Result<Self, InvalidLeaf> {
        let certificate = parse(leaf)?;
        let id = spiffe::cert::spiffe_id_from_der(leaf).map_err(InvalidLeaf::Nameless)?.to_string();
        let key = certificate.public_key().subject_public_key.data.to_vec();
        Ok(Self { id, not_after: not_after(&certificate), key })
    }

    /// The peer whose certificate chain a handshake accepted; leaf first.
    pub(crate) fn of_chain(
        chain: Option<&[rustls::pki_types::CertificateDer<'_>]>,
    ) -> Result<Self, InvalidLeaf> {
        Self::of(chain.and_then(<[_]>::first).ok_or(InvalidLeaf::Missing)?)
    }

    /// SPIFFE id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When the certificate expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether the key of this certificate signed the token (ES256).
    pub fn signed(&self, jwt: &str) -> bool {
        let Some((message, signature)) = jwt.rsplit_once('.') else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.key)
            .verify(message.as_bytes(), &signature)
            .is_ok()
    }
}

/// The certificate in `der`, with no bytes behind it.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, InvalidLeaf> {
    match parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(InvalidLeaf::Malformed),
    }
}

/// When a certificate expires; times before 1970 count as 1970.
pub(super) fn not_after(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(seconds)
}
