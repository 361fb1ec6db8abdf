// SPDX-License-Identifier: Apache-2.0

//! A certificate authority that issues X.509-SVIDs as SPIRE does.
//!
//! A leaf has an EC P-256 key, one URI SAN with the SPIFFE id, key usage `digitalSignature`,
//! extended key usages for both sides of TLS, a subject without a common name, and is valid since
//! 10 s. The root signs it directly.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SignatureAlgorithm,
};
use spiffe::{TrustDomain, X509Bundle, X509BundleSet, X509Context, X509Svid};

use crate::transport::{Identity, Svid};

/// How far before its issue a certificate becomes valid, because clocks differ.
const BACKDATE: Duration = Duration::from_secs(10);
/// Validity of the root. No test outlives it.
const ROOT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Validity of a leaf from [`Authority::leaf`].
const LEAF_LIFETIME: Duration = Duration::from_secs(3600);

/// A certificate authority of one trust domain.
///
/// Its methods panic if a name cannot be written into a certificate, that is, if it is not ASCII.
pub struct Authority {
    trust_domain: String,
    root: CertifiedIssuer<'static, KeyPair>,
}

/// An X.509-SVID with its private key, as the Workload API delivers it. It has no `Debug`, because
/// it holds a key.
#[derive(Clone)]
pub struct Issued {
    /// SPIFFE id.
    pub id: String,
    /// The leaf, in DER.
    pub certificate: Vec<u8>,
    /// Private key, PKCS#8 in DER.
    pub key: Vec<u8>,
    /// Certificates by which peers of the trust domain are verified, in DER, concatenated.
    pub bundle: Vec<u8>,
    /// End of validity.
    pub not_after: SystemTime,
}

impl Authority {
    /// Makes a root for a trust domain, such as `example.org`.
    pub fn new(trust_domain: &str) -> Self {
        let now = SystemTime::now();
        let mut root = params(&format!("spiffe://{trust_domain}"), now - BACKDATE, now + ROOT_LIFETIME);
        root.extended_key_usages.clear();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { trust_domain: trust_domain.to_owned(), root: CertifiedIssuer::self_signed(root, key).unwrap() }
    }

    /// The SPIFFE id of a pod, in the form that NSM's deployments use.
    pub fn pod(&self, namespace: &str, name: &str) -> String {
        format!("spiffe://{}/ns/{namespace}/pod/{name}", self.trust_domain)
    }

    /// The root certificate, in DER.
    pub fn bundle(&self) -> &[u8] {
        self.root.der()
    }

    /// Issues an SVID that is valid from now on.
    pub fn issue(&self, id: &str, lifetime: Duration) -> Issued {
        let now = SystemTime::now();
        self.issue_between(id, now - BACKDATE, now + lifetime)
    }

    /// Issues an SVID with the given validity: expired, or not valid yet.
    pub fn issue_between(&self, id: &str, from: SystemTime, until: SystemTime) -> Issued {
        self.sign(id, params(id, from, until), until, &PKCS_ECDSA_P256_SHA256)
    }

    /// Issues an SVID for `spiffe://<trust domain>/<name>`, valid for an hour.
    pub fn leaf(&self, name: &str) -> Issued {
        self.issue(&self.id(name), LEAF_LIFETIME)
    }

    /// Issues an SVID that expires in `seconds`; with a negative number, it has expired.
    pub fn leaf_until(&self, name: &str, seconds: i64) -> Issued {
        self.issue_between(&self.id(name), moment(-3600), moment(seconds))
    }

    /// Issues an SVID with another key, or with changed parameters, to be refused by a peer.
    pub fn odd_leaf(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let now = SystemTime::now();
        let id = self.id(name);
        let mut leaf = params(&id, now - BACKDATE, now + LEAF_LIFETIME);
        change(&mut leaf);
        self.sign(&id, leaf, now + LEAF_LIFETIME, algorithm)
    }

    /// The answer of the Workload API to a workload with this leaf.
    pub fn context(&self, leaf: &Issued) -> X509Context {
        self.context_with(leaf, &[])
    }

    /// The same with bundles of other trust domains.
    pub fn context_with(&self, leaf: &Issued, others: &[&Self]) -> X509Context {
        let svid = X509Svid::parse_from_der(&leaf.certificate, &leaf.key).unwrap();
        let mut bundles = X509BundleSet::new();
        for authority in others.iter().chain([&self]) {
            let domain = TrustDomain::new(&authority.trust_domain).unwrap();
            bundles.add_bundle(X509Bundle::parse_from_der(domain, authority.bundle()).unwrap());
        }
        X509Context::new([Arc::new(svid)], bundles)
    }

    /// An SVID as the transport uses it.
    pub fn svid(&self, name: &str) -> Arc<Svid> {
        Arc::new(Svid::new(&self.context(&self.leaf(name))).unwrap())
    }

    /// An identity that never changes.
    pub fn identity(&self, name: &str) -> Identity {
        Identity::fixed(self.svid(name))
    }

    fn id(&self, name: &str) -> String {
        format!("spiffe://{}/{name}", self.trust_domain)
    }

    fn sign(
        &self,
        id: &str,
        leaf: CertificateParams,
        not_after: SystemTime,
        algorithm: &'static SignatureAlgorithm,
    ) -> Issued {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = leaf.signed_by(&key, &self.root).unwrap();
        Issued {
            id: id.to_owned(),
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            bundle: self.bundle().to_vec(),
            not_after,
        }
    }
}

/// A URI as a subject alternative name.
pub fn uri(text: &str) -> SanType {
    let uri = text.try_into().unwrap_or_else(|error| panic!("no certificate can carry `{text}`: {error}"));
    SanType::URI(uri)
}

/// The moment some seconds from now; a negative number: ago.
pub fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    if seconds < 0 { now - distance } else { now + distance }
}

/// The parameters of a leaf.
fn params(id: &str, from: SystemTime, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(id)];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "US");
    params.distinguished_name.push(DnType::OrganizationName, "SPIRE");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = from.into();
    params.not_after = until.into();
    params
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn a_leaf_looks_like_spires_and_is_signed_by_the_root() {
        let authority = Authority::new("lab.test");
        let id = authority.pod("default", "proxy");
        let issued = authority.issue(&id, Duration::from_secs(3600));

        let (_, root) = parse_x509_certificate(authority.bundle()).unwrap();
        let (_, leaf) = parse_x509_certificate(&issued.certificate).unwrap();
        let root_der = authority.bundle().into();
        let leaf_der = issued.certificate.as_slice().into();
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
        let authority = Authority::new("lab.test");
        let id = authority.pod("default", "a");
        let hour = Duration::from_secs(3600);
        let first = authority.issue(&id, hour);
        let second = authority.issue(&id, hour);
        assert_ne!(first.key, second.key);
        let now = SystemTime::now();
        let old = authority.issue_between(&id, now - 2 * hour, now - hour);
        let (_, leaf) = parse_x509_certificate(&old.certificate).unwrap();
        assert!(!leaf.validity().is_valid());
    }

    #[test]
    #[should_panic(expected = "`spiffe://lab.test/é`")]
    fn an_id_that_no_certificate_can_carry_is_named() {
        Authority::new("lab.test").issue("spiffe://lab.test/é", Duration::from_secs(1));
    }
}
