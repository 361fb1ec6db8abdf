// SPDX-License-Identifier: Apache-2.0

use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rustls::pki_types::{CertificateDer, UnixTime};
use spiffe::TrustDomain;
use tokio::{sync::watch, time::Instant};

use super::{trust::Trust, *};
use crate::testing::{Authority, Issued, Workload, eventually, moment, soon, uri};

/// The result of the verifier of a workload of `authority` for a leaf.
fn verify(authority: &Authority, leaf: &Issued) -> Result<(), Unverified> {
    let provider = rustls::crypto::ring::default_provider();
    let root = CertificateDer::from(authority.bundle());
    let anchor = webpki::anchor_from_trusted_cert(&root).unwrap().to_owned();
    let anchors = [(TrustDomain::new("a.test").unwrap(), vec![anchor])].into();
    let trust = Trust { anchors, algorithms: provider.signature_verification_algorithms };
    trust.check(&CertificateDer::from(leaf.certificate.as_slice()), &[], UnixTime::now())
}

#[test]
fn a_peer_is_verified_by_the_four_rules() {
    let ours = Authority::new("a.test");
    let impostor = Authority::new("a.test");
    let other = Authority::new("b.test");
    let leaf =
        |change: fn(&mut rcgen::CertificateParams)| ours.odd_leaf("x", &PKCS_ECDSA_P256_SHA256, change);
    let id = || "spiffe://a.test/x".to_owned();
    let table: Vec<(&str, Issued, Result<(), Unverified>)> = vec![
        ("an SVID", ours.leaf("x"), Ok(())),
        ("no URI", leaf(|params| params.subject_alt_names.clear()), Err(Unverified::Nameless)),
        (
            "two URIs",
            leaf(|params| params.subject_alt_names.push(uri("spiffe://a.test/y"))),
            Err(Unverified::Nameless),
        ),
        (
            "another URI",
            leaf(|params| params.subject_alt_names = vec![uri("https://a.test/x")]),
            Err(Unverified::Nameless),
        ),
        (
            "a CA",
            leaf(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            Err(Unverified::Authority(id())),
        ),
        (
            "may sign certificates",
            leaf(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
            Err(Unverified::Authority(id())),
        ),
        (
            "may sign revocations",
            leaf(|params| params.key_usages.push(KeyUsagePurpose::CrlSign)),
            Err(Unverified::Authority(id())),
        ),
        ("foreign", other.leaf("x"), Err(Unverified::Foreign("spiffe://b.test/x".into()))),
        ("expired", ours.leaf_until("x", -1), Err(Unverified::Expired(id()))),
        (
            "not valid yet",
            leaf(|params| params.not_before = moment(60).into()),
            Err(Unverified::NotYetValid(id())),
        ),
        (
            "any purpose",
            leaf(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
            Ok(()),
        ),
        ("any host name", leaf(|params| params.subject_alt_names.push(dns("elsewhere"))), Ok(())),
    ];
    for (what, leaf, expected) in table {
        assert_eq!(verify(&ours, &leaf), expected, "{what}");
    }
    // Both claim to be the authority of a.test.
    let forged = verify(&ours, &impostor.leaf("x")).unwrap_err();
    assert!(matches!(&forged, Unverified::Untrusted { id, .. } if id == "spiffe://a.test/x"), "{forged:?}");
    assert_eq!(
        verify(&ours, &Issued { certificate: vec![1, 2], ..ours.leaf("x") }),
        Err(Unverified::Nameless)
    );
}

fn dns(name: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(name.try_into().unwrap())
}

#[test]
fn an_unacceptable_svid_is_refused_with_its_reason() {
    let ours = Authority::new("a.test");
    let other = Authority::new("a.test");
    let table = [
        (ours.context(&ours.leaf_until("x", -1)), "has expired"),
        (other.context(&ours.leaf("x")), "not of the bundle"),
        (ours.context(&ours.odd_leaf("x", &PKCS_ECDSA_P384_SHA384, |_| {})), "not ECDSA P-256"),
        (spiffe::X509Context::new([], spiffe::X509BundleSet::new()), "no SVID"),
        (ours.context(&Issued { key: ours.leaf("x").key, ..ours.leaf("x") }), "certificate and key"),
    ];
    for (context, reason) in table {
        let why = crate::chain::causes(&Svid::new(&context).unwrap_err());
        assert!(why.contains(reason), "`{why}` says `{reason}`");
    }
}

#[test]
fn neither_an_svid_nor_an_identity_shows_its_key() {
    let authority = Authority::new("a.test");
    let text = format!("{:?} {:?}", authority.svid("x"), authority.identity("x"));
    assert!(text.contains("spiffe://a.test/x") && !text.to_lowercase().contains("key"), "{text}");
}

/// An identity from a Workload API that `begin` has prepared.
fn follow(begin: impl FnOnce(&Workload)) -> (Identity, Workload, crate::task::Tasks, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let agent = Workload::listen(folder.path().join("agent.sock")).unwrap();
    begin(&agent);
    let tasks = crate::task::Tasks::default();
    (Identity::follow(&agent.url(), &tasks), agent, tasks, folder)
}

async fn error_like(state: &mut watch::Receiver<IdentityState>, like: &str) -> IdentityState {
    let state = state.clone();
    eventually(
        || state.borrow().clone(),
        |state: &IdentityState| state.error.as_ref().is_some_and(|it| it.to_string().contains(like)),
    )
    .await
}

#[tokio::test]
async fn a_workload_gets_its_identity_soon_after_its_entry() {
    let authority = Authority::new("a.test");
    let (identity, agent, tasks, _folder) = follow(Workload::refuse);
    error_like(&mut identity.subscribe(), "refuses: no identity issued").await;
    assert!(identity.current().is_none());
    let error = identity.ready(Instant::now()).await.unwrap_err();
    assert!(matches!(error, NoIdentity::Waiting(SvidError::Refused(_))), "{error:?}");
    agent.grant(authority.leaf("x"));
    let start = Instant::now();
    assert_eq!(identity.ready(soon()).await.unwrap().id(), "spiffe://a.test/x");
    assert!(start.elapsed().as_secs() < 5, "asked again within a second: {:?}", start.elapsed());
    assert_eq!(identity.subscribe().borrow().error, None);
    tasks.stop().await;
    assert!(tasks.is_empty());
}

#[tokio::test]
async fn a_rotation_replaces_the_svid_an_unusable_one_does_not() {
    let authority = Authority::new("a.test");
    let other = Authority::new("a.test");
    let (identity, agent, _tasks, _folder) = follow(|agent| agent.grant(authority.leaf("x")));
    let first = identity.ready(soon()).await.unwrap();
    agent.grant(authority.leaf("x"));
    let second = eventually(|| identity.current().unwrap(), |now| now.serial() != first.serial()).await;
    let p384 = authority.odd_leaf("x", &PKCS_ECDSA_P384_SHA384, |_| {});
    let garbage = Issued { certificate: vec![0x30, 0x03, 1, 2, 3], ..authority.leaf("x") };
    let foreign = Issued { bundle: authority.bundle().to_vec(), ..other.leaf("x") };
    let table = [
        (authority.leaf_until("x", -1), "expired"),
        (foreign, "not of the bundle"),
        (p384, "not ECDSA P-256"),
        (garbage, "failed to parse"),
    ];
    for (issued, reason) in table {
        agent.grant(issued);
        error_like(&mut identity.subscribe(), reason).await;
        assert!(Arc::ptr_eq(&identity.current().unwrap(), &second), "{reason}");
    }
    agent.grant(authority.leaf("x"));
    eventually(|| identity.current().unwrap(), |now| now.serial() != second.serial()).await;
    assert_eq!(identity.subscribe().borrow().error, None);
}

#[tokio::test]
async fn an_svid_that_expires_without_a_successor_is_no_longer_used() {
    let authority = Authority::new("a.test");
    let (identity, agent, _tasks, _folder) = follow(|agent| agent.grant(authority.leaf_until("x", 3)));
    identity.ready(soon()).await.unwrap();
    agent.silence();
    error_like(&mut identity.subscribe(), "has expired").await;
    assert!(identity.current().is_none());
    agent.grant(authority.leaf("x"));
    identity.ready(soon() + std::time::Duration::from_secs(5)).await.unwrap();
}

/// Time is paused: five seconds pass as soon as nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_named_and_so_is_a_missing_one() {
    let (identity, agent, _tasks, folder) = follow(Workload::silence);
    error_like(&mut identity.subscribe(), "silent").await;
    drop((agent, folder));
    error_like(&mut identity.subscribe(), "cannot be reached").await;
    assert!(identity.ready(Instant::now()).await.is_err());
}

#[tokio::test]
async fn the_svid_stays_while_the_agent_restarts() {
    let authority = Authority::new("a.test");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let agent = Workload::listen(&socket).unwrap();
    agent.grant(authority.leaf("x"));
    let tasks = crate::task::Tasks::default();
    let identity = Identity::follow(&format!("unix://{}", socket.display()), &tasks);
    let first = identity.ready(soon()).await.unwrap();
    drop(agent);
    error_like(&mut identity.subscribe(), "cannot be reached").await;
    assert!(Arc::ptr_eq(&identity.current().unwrap(), &first));
    let agent = Workload::listen(&socket).unwrap();
    agent.grant(authority.leaf("x"));
    eventually(|| identity.current().unwrap(), |now| now.serial() != first.serial()).await;
}
