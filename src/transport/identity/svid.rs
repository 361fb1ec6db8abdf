// SPDX-License-Identifier: Apache-2.0

//! One immutable X.509-SVID: certificate chain, key, and the bundles that came with it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls::{
    ClientConfig, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, TrustAnchor, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};
use spiffe::{TrustDomain, X509Bundle, X509Context};

use super::{
    peer,
    trust::{Trust, Unverified},
    verifier::{Verdict, Verifier},
};

/// Application protocol of all connections. Go's gRPC requires it.
pub(crate) const ALPN: &[u8] = b"h2";

/// One immutable X.509-SVID. The certificate, tokens and bundles of one connection come from one of
/// these.
pub struct Svid {
    id: String,
    serial: String,
    not_after: SystemTime,
    received: SystemTime,
    key: Arc<CertifiedKey>,
    signer: EcdsaKeyPair,
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
}

/// The reason why an SVID of the Workload API is refused. The previous one stays in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedSvid {
    /// The answer holds no SVID. The workload has no entry with an X.509 SVID.
    #[error("the answer holds no SVID")]
    Missing,
    /// The leaf certificate cannot be parsed.
    #[error("the leaf certificate cannot be read")]
    Leaf(#[from] peer::InvalidLeaf),
    /// The key is not ECDSA P-256, which NSM's tokens need. Set `ec-p256` as the workloads' key
    /// type.
    #[error("the key of `{0}` is not ECDSA P-256, which NSM's tokens need")]
    Key(String),
    /// A bundle holds a certificate that cannot be a trust anchor.
    #[error("the bundle of `{0}` cannot be read: {1}")]
    Bundle(String, webpki::Error),
    /// The SVID is expired, or not of the bundle of its trust domain: no peer would accept it.
    #[error("peers would not accept it")]
    Unverified(#[from] Unverified),
    /// The certificate and the key do not belong together.
    #[error("certificate and key of the SVID do not fit")]
    Tls(#[from] rustls::Error),
}

impl Svid {
    /// Takes the default SVID of an answer of the Workload API, with all its bundles.
    ///
    /// # Errors
    /// [`RefusedSvid`] if peers would not accept it now, or tokens cannot be signed with it.
    pub fn new(context: &X509Context) -> Result<Self, RefusedSvid> {
        let svid = context.default_svid().ok_or(RefusedSvid::Missing)?;
        let id = svid.spiffe_id().to_string();
        let leaf = peer::parse(svid.leaf().as_bytes())?;
        let key = svid.private_key().as_bytes();
        let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &SystemRandom::new())
            .map_err(|_| RefusedSvid::Key(id.clone()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut trust =
            Trust { anchors: Default::default(), algorithms: provider.signature_verification_algorithms };
        for (domain, bundle) in context.bundle_set().iter() {
            trust.anchors.insert(domain.clone(), anchors(domain, bundle)?);
        }
        let chain: Vec<CertificateDer<'static>> =
            svid.cert_chain().iter().map(|der| CertificateDer::from(der.as_bytes().to_vec())).collect();
        if let Some((leaf, intermediates)) = chain.split_first() {
            trust.check(leaf, intermediates, UnixTime::now())?;
        }
        Ok(Self {
            serial: leaf.raw_serial_as_string(),
            not_after: peer::not_after(&leaf),
            received: SystemTime::now(),
            key: Arc::new(CertifiedKey::from_der(
                chain,
                PrivatePkcs8KeyDer::from(key.to_vec()).into(),
                &provider,
            )?),
            id,
            signer,
            trust: Arc::new(trust),
            provider,
        })
    }

    /// SPIFFE id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Serial number of the leaf certificate, in hexadecimal; it differs between SVIDs of one id.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// When the leaf certificate expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When it was received, with its bundles.
    pub fn received(&self) -> SystemTime {
        self.received
    }

    /// The trust domains whose peers can be verified, each with the number of certificates in its
    /// bundle.
    pub fn bundles(&self) -> impl Iterator<Item = (&str, usize)> {
        self.trust.anchors.iter().map(|(domain, anchors)| (domain.as_str(), anchors.len()))
    }

    /// Time left until the leaf certificate expires; `None` once it has.
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.not_after.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    /// A new TLS configuration for one connection to a peer.
    ///
    /// # Errors
    /// Those of rustls.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.client_config_noting(&Verdict::default())
    }

    /// Like [`client_config`](Self::client_config); records in `verdict` why the peer is not
    /// trusted.
    pub(crate) fn client_config_noting(&self, verdict: &Verdict) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(verdict)))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// A new TLS configuration for one accepted connection. The peer must present a certificate.
    ///
    /// # Errors
    /// Those of rustls.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config_noting(&Verdict::default())
    }

    /// Like [`server_config`](Self::server_config); records in `verdict` why the peer is not
    /// trusted.
    pub(crate) fn server_config_noting(&self, verdict: &Verdict) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(self.verifier(verdict)))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    fn verifier(&self, verdict: &Verdict) -> Verifier {
        Verifier { trust: Arc::clone(&self.trust), verdict: verdict.clone() }
    }

    /// ES256 signature of `message`: r and s, 32 bytes each.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<impl AsRef<[u8]> + use<>, ring::error::Unspecified> {
        self.signer.sign(&SystemRandom::new(), message)
    }
}

/// Without the key.
impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn anchors(domain: &TrustDomain, bundle: &X509Bundle) -> Result<Vec<TrustAnchor<'static>>, RefusedSvid> {
    bundle
        .authorities()
        .iter()
        .map(|authority| {
            let der = CertificateDer::from(authority.as_bytes());
            webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned())
        })
        .collect::<Result<_, _>>()
        .map_err(|error| RefusedSvid::Bundle(domain.to_string(), error))
}
