// SPDX-License-Identifier: Apache-2.0
//! Issue X.509-SVIDs as SPIRE does, from a root that lives as long as the lab.
//!
//! A leaf has an EC P-256 key, one URI SAN with the SPIFFE id, key usage `digitalSignature`, extended key usages for both sides
//! of TLS, a subject without a common name, and begins 10 s in the past. The root signs it directly.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

/// How far before its issue a certificate becomes valid: clocks differ.
const BACKDATE: Duration = Duration::from_secs(10);
/// Validity of the root. Nothing in the lab outlives it.
const ROOT_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate for `{id}`")]
pub struct AuthorityError {
    /// The SPIFFE id that was asked for.
    pub id: String,
    /// What the X.509 library says. An id that is not ASCII is the usual reason.
    pub source: rcgen::Error,
}

/// A certificate authority of one trust domain.
pub struct Authority {
    trust_domain: String,
    root: CertifiedIssuer<'static, KeyPair>,
}

/// An X.509-SVID with its private key, as the Workload API delivers it. It has no `Debug`: it holds a key.
#[derive(Clone)]
pub struct Issued {
    /// SPIFFE id.
    pub id: String,
    /// The leaf, in DER.
    pub certificate: Vec<u8>,
    /// Private key, PKCS#8 in DER.
    pub key: Vec<u8>,
    /// Certificates that peers of the trust domain are verified against, in DER, concatenated.
    pub bundle: Vec<u8>,
    /// End of validity.
    pub not_after: SystemTime,
}

impl Authority {
    /// Make a root for a trust domain, such as `lab.meridio`.
    ///
    /// # Errors
    /// [`AuthorityError`] if the trust domain cannot be written into a certificate.
    pub fn new(trust_domain: &str) -> Result<Self, AuthorityError> {
        let id = format!("spiffe://{trust_domain}");
        let failed = |source| AuthorityError { id: id.clone(), source };
        let now = SystemTime::now();
        let mut root = params(&id, now - BACKDATE, now + ROOT_LIFETIME).map_err(failed)?;
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = key().and_then(|key| CertifiedIssuer::self_signed(root, key)).map_err(failed)?;
        Ok(Self { trust_domain: trust_domain.to_owned(), root })
    }

    /// The SPIFFE id of a pod, in the form that NSM's deployments use.
    pub fn pod(&self, namespace: &str, name: &str) -> String {
        format!("spiffe://{}/ns/{namespace}/pod/{name}", self.trust_domain)
    }

    /// The root certificate, in DER.
    pub fn bundle(&self) -> &[u8] {
        self.root.der()
    }

    /// Issue an SVID that is valid from now on.
    ///
    /// # Errors
    /// [`AuthorityError`] if the id cannot be written into a certificate.
    pub fn issue(&self, id: &str, lifetime: Duration) -> Result<Issued, AuthorityError> {
        let now = SystemTime::now();
        self.issue_between(id, now - BACKDATE, now + lifetime)
    }

    /// Issue an SVID with a validity of choice: expired, or not valid yet.
    ///
    /// # Errors
    /// [`AuthorityError`] if the id cannot be written into a certificate.
    pub fn issue_between(
        &self,
        id: &str,
        from: SystemTime,
        until: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let failed = |source| AuthorityError { id: id.to_owned(), source };
        let mut leaf = params(id, from, until).map_err(failed)?;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key().map_err(failed)?;
        let certificate = leaf.signed_by(&key, &self.root).map_err(failed)?;
        Ok(Issued {
            id: id.to_owned(),
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            bundle: self.bundle().to_vec(),
            not_after: until,
        })
    }
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn params(id: &str, from: SystemTime, until: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "US");
    params.distinguished_name.push(DnType::OrganizationName, "SPIRE");
    params.not_before = from.into();
    params.not_after = until.into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn a_leaf_looks_like_spires_and_is_signed_by_the_root() {
        let authority = Authority::new("lab.test").unwrap();
        let id = authority.pod("default", "proxy");
        let issued = authority.issue(&id, Duration::from_secs(3600)).unwrap();

        let (_, root) = parse_x509_certificate(authority.bundle()).unwrap();
        let (_, leaf) = parse_x509_certificate(&issued.certificate).unwrap();
        let (root_der, leaf_der) = (authority.bundle().into(), issued.certificate.as_slice().into());
        let anchor = webpki::anchor_from_trusted_cert(&root_der).unwrap();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        let usage = webpki::KeyUsage::client_auth();
        let chain = webpki::EndEntityCert::try_from(&leaf_der).unwrap();
        chain.verify_for_usage(algorithms, &[anchor], &[], UnixTime::now(), usage, None, None).unwrap();
        assert!(root.is_ca() && !leaf.is_ca());
        assert!(leaf.basic_constraints().unwrap().is_some(), "BasicConstraints must be explicit");
        assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
        assert_eq!(leaf.subject().iter_common_name().count(), 0);
        assert_eq!(spiffe::cert::spiffe_id_from_der(&issued.certificate).unwrap().to_string(), id);
        let left = leaf.validity().time_to_expiration().unwrap();
        assert!(left.whole_seconds() > 3590, "{left}");
    }

    #[test]
    fn each_issue_has_its_own_key_and_an_expired_one_can_be_made() {
        let authority = Authority::new("lab.test").unwrap();
        let id = authority.pod("default", "a");
        let hour = Duration::from_secs(3600);
        let first = authority.issue(&id, hour).unwrap();
        let second = authority.issue(&id, hour).unwrap();
        assert_ne!(first.key, second.key);
        let now = SystemTime::now();
        let old = authority.issue_between(&id, now - 2 * hour, now - hour).unwrap();
        let (_, leaf) = parse_x509_certificate(&old.certificate).unwrap();
        assert!(!leaf.validity().is_valid());
    }

    #[test]
    fn an_id_that_no_certificate_can_carry_is_named() {
        let authority = Authority::new("lab.test").unwrap();
        let error = authority.issue("spiffe://lab.test/é", Duration::from_secs(1)).err().unwrap();
        assert!(error.to_string().contains("spiffe://lab.test/é"), "{error}");
    }
}
