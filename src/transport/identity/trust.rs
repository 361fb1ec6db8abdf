// SPDX-License-Identifier: Apache-2.0

//! Verifies the certificates of peers as SPIFFE requires: by trust domain, never by host name.
//!
//! 1. The leaf has exactly one URI SAN, a SPIFFE id.
//! 2. The leaf is not a CA and may sign neither certificates nor revocation lists.
//! 3. There is a bundle for the trust domain of the id.
//! 4. The chain leads to that bundle and is valid now; any extended key usage is accepted.

use std::collections::HashMap;

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
};
use spiffe::TrustDomain;

use super::peer;

/// The bundles of all known trust domains.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) anchors: HashMap<TrustDomain, Vec<TrustAnchor<'static>>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// The reason why a certificate chain is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
    /// Applies the rules to a chain.
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

/// Whether the key may sign certificates or revocation lists. Key usage that cannot be parsed
/// counts as such.
fn may_sign(certificate: &x509_parser::certificate::X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(None) => false,
        Ok(Some(usage)) => usage.value.key_cert_sign() || usage.value.crl_sign(),
        Err(_) => true,
    }
}
