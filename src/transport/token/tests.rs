// SPDX-License-Identifier: Apache-2.0

use std::sync::Arc;

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tonic::Code;

use super::*;
use crate::{
    api::PathSegment,
    testing::{Authority, Issued},
};

const LIFETIME: Duration = Duration::from_secs(600);

/// One hop: its SVID, and its public part.
struct Hop {
    svid: Arc<Svid>,
    peer: Peer,
    leaf: Issued,
}

fn hop(authority: &Authority, leaf: Issued) -> Hop {
    let svid = Arc::new(Svid::new(&authority.context(&leaf)).unwrap());
    Hop { svid, peer: Peer::of(&leaf.certificate).unwrap(), leaf }
}

/// Client, nsmgr and endpoint, all of one authority.
fn hops() -> [Hop; 3] {
    let authority = Authority::new("a.test");
    ["client", "nsmgr", "endpoint"].map(|name| hop(&authority, authority.leaf(name)))
}

fn segment(token: &str) -> PathSegment {
    PathSegment { token: token.to_owned(), ..Default::default() }
}

fn from_to(maker: &Hop, peer: &Hop) -> PathSegment {
    segment(issue(&maker.svid, &peer.peer, LIFETIME).unwrap().jwt())
}

/// A token of `maker` with the given claims.
fn forge(maker: &Hop, claims: &str) -> PathSegment {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
    let signature = maker.svid.sign(message.as_bytes()).unwrap();
    segment(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_token_has_the_bytes_that_go_writes() {
    let [client, nsmgr, _] = hops();
    let earliest = seconds(SystemTime::now() + LIFETIME);
    let token = issue(&client.svid, &nsmgr.peer, LIFETIME).unwrap();
    let parts: Vec<&str> = token.jwt().split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    assert_eq!(header, "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9");
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let exp = seconds(token.expires());
    assert!((earliest..earliest + 10).contains(&exp), "{exp} from {earliest}");
    assert_eq!(
        claims,
        format!(r#"{{"sub":"spiffe://a.test/client","aud":["spiffe://a.test/nsmgr"],"exp":{exp}}}"#)
    );
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(signature.len(), 64, "r and s");
    let (_, leaf) = x509_parser::parse_x509_certificate(&client.leaf.certificate).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &leaf.public_key().subject_public_key.data);
    let message = token.jwt().rsplit_once('.').unwrap().0;
    key.verify(message.as_bytes(), &signature).unwrap();
    assert!(client.peer.signed(token.jwt()) && !nsmgr.peer.signed(token.jwt()));
}

#[test]
fn a_token_outlives_neither_certificate() {
    let authority = Authority::new("a.test");
    let [long, short] = [3600, 60].map(|left| hop(&authority, authority.leaf_until("x", left)));
    let claim = |token: &Token| {
        let claims = token.jwt().split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        claims["exp"].as_u64().unwrap()
    };
    let of_short = issue(&short.svid, &long.peer, LIFETIME).unwrap();
    assert_eq!(claim(&of_short), seconds(short.svid.not_after()));
    assert_eq!(of_short.expires(), short.svid.not_after());
    let for_short = issue(&long.svid, &short.peer, LIFETIME).unwrap();
    assert!(
        claim(&for_short) > seconds(short.svid.not_after()) + 400,
        "the claim knows our certificate only"
    );
    assert_eq!(for_short.expires(), short.svid.not_after());
}

#[test]
fn a_received_path_is_refused_by_the_first_broken_rule() {
    let hops = hops();
    let [client, nsmgr, endpoint] = &hops;
    let good = || vec![from_to(client, nsmgr), from_to(nsmgr, endpoint), from_to(endpoint, nsmgr)];
    let with = |index: usize, segment: PathSegment| {
        let mut path = good();
        path[index] = segment;
        path
    };
    let later = seconds(SystemTime::now()) + 60;
    let claims =
        |aud: &str, exp: &str| format!(r#"{{"sub":"spiffe://a.test/nsmgr","aud":{aud},"exp":{exp}}}"#);
    let endpoints = r#"["spiffe://a.test/endpoint"]"#;
    let token = good()[1].token.clone();
    let two_parts = token.rsplit_once('.').unwrap().0;
    let unsigned = || Err(Denied::PreviousUnsigned("spiffe://a.test/nsmgr".into()));
    let table = [
        ("all is well", good(), Ok("spiffe://a.test/client".to_owned())),
        ("1: no token", with(1, segment("")), Err(Denied::Valid(1))),
        ("1: first has no token", with(0, segment("")), Err(Denied::Valid(0))),
        ("1: two parts", with(1, segment(two_parts)), Err(Denied::Valid(1))),
        ("1: four parts", with(1, segment(&format!("{token}.e30"))), Err(Denied::Valid(1))),
        ("1: no base64", with(1, segment("a.b!.c")), Err(Denied::Valid(1))),
        ("1: no JSON", with(1, forge(nsmgr, "sub")), Err(Denied::Valid(1))),
        ("1: giant", with(1, segment(&"e30.".repeat(5000))), Err(Denied::Valid(1))),
        (
            "1: giant claims",
            with(1, forge(nsmgr, &format!(r#"{{"sub":"{}"}}"#, "a".repeat(MAX_TOKEN)))),
            Err(Denied::Valid(1)),
        ),
        ("2: expired", with(1, forge(nsmgr, &claims(endpoints, "1000"))), Err(Denied::Expired(1))),
        ("2: never expires", with(1, forge(nsmgr, r#"{"sub":"x","aud":[]}"#)), Err(Denied::Expired(1))),
        ("2: text", with(1, forge(nsmgr, &claims(endpoints, r#""9999999999""#))), Err(Denied::Expired(1))),
        ("3: for another", with(1, from_to(nsmgr, client)), Err(Denied::Chained(1))),
        ("3: of another", with(1, from_to(client, endpoint)), Err(Denied::Chained(0))),
        (
            "3: text aud",
            with(1, forge(nsmgr, &claims(r#""spiffe://a.test/endpoint""#, &later.to_string()))),
            Err(Denied::Chained(1)),
        ),
        (
            "3: no aud",
            with(1, forge(nsmgr, &format!(r#"{{"sub":"spiffe://a.test/nsmgr","exp":{later}}}"#))),
            Err(Denied::Chained(1)),
        ),
        (
            "two audiences",
            with(1, forge(nsmgr, &claims(r#"["x","spiffe://a.test/endpoint"]"#, &later.to_string()))),
            Ok("spiffe://a.test/client".to_owned()),
        ),
        ("4: signed by another", with(1, forge(client, &claims(endpoints, &later.to_string()))), unsigned()),
        (
            "4: in the name of another",
            with(1, forge(nsmgr, &claims(endpoints, &later.to_string()).replace("nsmgr", "other"))),
            Err(Denied::Chained(0)),
        ),
        (
            "5: first segment of nobody",
            with(0, forge(client, &format!(r#"{{"aud":["spiffe://a.test/nsmgr"],"exp":{later}}}"#))),
            Err(Denied::Valid(0)),
        ),
        ("4: no caller", vec![from_to(endpoint, nsmgr)], unsigned()),
        ("4: nobody", vec![], unsigned()),
    ];
    for (what, path, expected) in table {
        assert_eq!(verify_received(&path, &nsmgr.peer, SystemTime::now()), expected, "{what}");
    }
    // Signatures further left are not verified, as in Go.
    let far = format!(r#"{{"sub":"spiffe://a.test/client","aud":["spiffe://a.test/nsmgr"],"exp":{later}}}"#);
    let far = with(0, forge(endpoint, &far));
    assert!(verify_received(&far, &nsmgr.peer, SystemTime::now()).is_ok());
    let then = SystemTime::now() + LIFETIME + Duration::from_secs(2);
    assert_eq!(verify_received(&good(), &nsmgr.peer, then), Err(Denied::Expired(0)));
}

#[test]
fn the_first_hop_signs_in_its_own_name() {
    let [client, nsmgr, endpoint] = hops();
    let later = seconds(SystemTime::now()) + 60;
    let claims = |sub: &str| format!(r#"{{"sub":"{sub}","aud":["spiffe://a.test/endpoint"],"exp":{later}}}"#);
    let path = |sub: &str| [forge(&nsmgr, &claims(sub)), from_to(&endpoint, &nsmgr)];
    let verified = |sub: &str| verify_received(&path(sub), &nsmgr.peer, SystemTime::now());
    assert_eq!(verified(nsmgr.peer.id()), Ok(nsmgr.peer.id().to_owned()));
    let foreign =
        Denied::PreviousForeign { peer: nsmgr.peer.id().to_owned(), maker: client.peer.id().to_owned() };
    assert_eq!(verified(client.peer.id()), Err(foreign));
    assert_eq!(verified(&"i".repeat(2049)), Err(Denied::Valid(0)), "longer than a SPIFFE id");
}

#[test]
fn an_answer_is_refused_if_the_next_hop_did_not_sign_its_token() {
    let hops = hops();
    let [client, nsmgr, endpoint] = &hops;
    let path = [from_to(client, nsmgr), from_to(nsmgr, endpoint), from_to(endpoint, nsmgr)];
    let now = SystemTime::now();
    assert_eq!(verify_answer(&path, 0, &nsmgr.peer, now), Ok(()));
    assert_eq!(verify_answer(&path, 1, &endpoint.peer, now), Ok(()));
    let unsigned = |hop: &Hop| Err(Denied::NextUnsigned(hop.peer.id().to_owned()));
    assert_eq!(verify_answer(&path, 0, &endpoint.peer, now), unsigned(endpoint));
    for out_of_range in [2, 3, usize::MAX] {
        assert_eq!(verify_answer(&path, out_of_range, &nsmgr.peer, now), unsigned(nsmgr));
    }
    let mut right = path.clone();
    right[2].token.clear();
    assert_eq!(
        verify_answer(&right, 0, &nsmgr.peer, now),
        Err(Denied::Valid(2)),
        "the whole path is looked at"
    );
}

#[test]
fn a_rotation_between_wire_and_token_is_refused() {
    let authority = Authority::new("a.test");
    let [old, new, endpoint] =
        ["nsmgr", "nsmgr", "endpoint"].map(|name| hop(&authority, authority.leaf(name)));
    let path = [from_to(&new, &endpoint), from_to(&endpoint, &new)];
    assert!(verify_received(&path, &new.peer, SystemTime::now()).is_ok());
    assert!(verify_received(&path, &old.peer, SystemTime::now()).is_err());
}

#[test]
fn the_metadata_of_a_call_has_both_values_once_or_none() {
    let [client, nsmgr, _] = hops();
    let token = issue(&client.svid, &nsmgr.peer, LIFETIME).unwrap();
    let mut metadata = MetadataMap::new();
    assert_eq!(Token::of_call(&metadata).unwrap(), None);
    token.attach(&mut metadata);
    assert_eq!(Token::of_call(&metadata).unwrap(), Some(token));

    let giant = "a".repeat(MAX_TOKEN + 1);
    let time = "2026-01-02T03:04:05.123456789Z";
    let table: [(&[(&'static str, &str)], &str); 6] = [
        (&[(TOKEN, "a")], "one is missing"),
        (&[(EXPIRES, time)], "one is missing"),
        (&[(TOKEN, "a"), (TOKEN, "b"), (EXPIRES, time)], "more than once"),
        (&[(TOKEN, "a"), (EXPIRES, time), (EXPIRES, time)], "more than once"),
        (&[(TOKEN, "a"), (EXPIRES, "tomorrow")], "RFC 3339"),
        (&[(TOKEN, &giant), (EXPIRES, time)], "16384 bytes"),
    ];
    for (values, reason) in table {
        let mut metadata = MetadataMap::new();
        for (key, value) in values {
            metadata.append(*key, value.parse().unwrap());
        }
        let status = Token::of_call(&metadata).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(reason), "`{}` says `{reason}`", status.message());
    }
}

#[test]
fn a_token_does_not_show_itself() {
    let [client, nsmgr, _] = hops();
    let token = issue(&client.svid, &nsmgr.peer, LIFETIME).unwrap();
    assert!(!format!("{token:?}").contains("eyJ"));
}
