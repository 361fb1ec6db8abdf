// SPDX-License-Identifier: Apache-2.0

//! Test with a certificate authority, a Workload API and an endpoint that do what a test tells them.

pub(crate) mod abrupt;
pub(crate) mod echo;

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SignatureAlgorithm,
};
use spiffe::{TrustDomain, X509Bundle, X509BundleSet, X509Context, X509Svid};
use tokio::{net::UnixListener, sync::watch, time::Instant};
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

use super::{Identity, Svid};
use crate::api::pb::spiffe::{
    X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};

/// A moment by which everything that a test waits for has happened.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Poll until `done`, at most ten seconds.
pub(crate) async fn eventually<T: std::fmt::Debug>(value: impl Fn() -> T, done: impl Fn(&T) -> bool) -> T {
    for _ in 0..1000 {
        let value = value();
        if done(&value) {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still {:?} after 10 s", value());
}

/// A certificate authority of one trust domain.
pub(crate) struct Authority {
    domain: &'static str,
    root: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf certificate and its key, in DER.
pub(crate) struct Leaf {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(domain: &'static str) -> Self {
        let mut root = CertificateParams::default();
        root.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))];
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { domain, root: CertifiedIssuer::self_signed(root, key).unwrap() }
    }

    /// A leaf like SPIRE's for `spiffe://<domain>/<name>`, valid for an hour.
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.odd_leaf(name, &PKCS_ECDSA_P256_SHA256, |_| {})
    }

    /// The same with another key, or with something else about it.
    pub(crate) fn odd_leaf(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(&format!("spiffe://{}/{name}", self.domain))];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = moment(-60).into();
        params.not_after = moment(3600).into();
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.root).unwrap();
        Leaf { certificate: certificate.der().to_vec(), key: key.serialize_der() }
    }

    /// A leaf that expires in `seconds` (negative: has expired).
    pub(crate) fn leaf_until(&self, name: &str, seconds: i64) -> Leaf {
        self.odd_leaf(name, &PKCS_ECDSA_P256_SHA256, |params| {
            params.not_before = moment(-3600).into();
            params.not_after = moment(seconds).into();
        })
    }

    pub(crate) fn root(&self) -> &[u8] {
        self.root.der()
    }

    /// What the Workload API gives a workload with this leaf.
    pub(crate) fn context(&self, leaf: &Leaf) -> X509Context {
        self.context_with(leaf, &[])
    }

    /// The same with bundles of other trust domains.
    pub(crate) fn context_with(&self, leaf: &Leaf, others: &[&Authority]) -> X509Context {
        let svid = X509Svid::parse_from_der(&leaf.certificate, &leaf.key).unwrap();
        let mut bundles = X509BundleSet::new();
        for authority in others.iter().chain([&self]) {
            let domain = TrustDomain::new(authority.domain).unwrap();
            bundles.add_bundle(X509Bundle::parse_from_der(domain, authority.root()).unwrap());
        }
        X509Context::new([Arc::new(svid)], bundles)
    }

    pub(crate) fn svid(&self, name: &str) -> Arc<Svid> {
        Arc::new(Svid::new(&self.context(&self.leaf(name))).unwrap())
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        Identity::fixed(self.svid(name))
    }

    /// The message of the Workload API for a leaf.
    pub(crate) fn message(&self, name: &str, leaf: &Leaf) -> Word {
        Word::Svid(X509svid {
            spiffe_id: format!("spiffe://{}/{name}", self.domain),
            x509_svid: leaf.certificate.clone(),
            x509_svid_key: leaf.key.clone(),
            bundle: self.root().to_vec(),
            hint: String::new(),
        })
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// The moment some seconds from now (negative: ago).
pub(crate) fn moment(seconds: i64) -> SystemTime {
    let now = SystemTime::now();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { now - distance } else { now + distance }
}

/// What an agent says.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// Nothing.
    Silence,
    /// `PermissionDenied`.
    Refusal,
    /// An SVID.
    Svid(X509svid),
}

/// A Workload API. It says the same word to all, and the next word on open streams too.
pub(crate) struct Agent {
    word: watch::Sender<Word>,
    _server: AbortOnDropHandle<()>,
}

impl Agent {
    pub(crate) fn listen(socket: &Path, word: Word) -> Self {
        let (word, words) = watch::channel(word);
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(SpiffeWorkloadApiServer::new(Api(words)))
            .serve_with_incoming_shutdown(incoming, std::future::pending());
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self { word, _server: AbortOnDropHandle::new(server) }
    }

    pub(crate) fn say(&self, word: Word) {
        self.word.send_replace(word);
    }
}

struct Api(watch::Receiver<Word>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let word = self.0.borrow().clone();
        match word {
            Word::Silence => std::future::pending().await,
            Word::Refusal => Err(Status::permission_denied("no identity issued")),
            Word::Svid(_) => {
                let answers = WatchStream::new(self.0.clone()).filter_map(|word| async {
                    match word {
                        Word::Silence => None,
                        Word::Refusal => Some(Err(Status::permission_denied("no identity issued"))),
                        Word::Svid(svid) => {
                            Some(Ok(X509svidResponse { svids: vec![svid], ..Default::default() }))
                        }
                    }
                });
                Ok(Response::new(Box::pin(answers)))
            }
        }
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(Status::unimplemented("nobody asks for it"))
    }
}
