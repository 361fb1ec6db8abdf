// SPDX-License-Identifier: Apache-2.0
//! Encodes a snapshot into bytes and decodes it.
//!
//! ```text
//! meridio-proxy snapshot 1 <SHA-256 of the rest, in hex>
//! {"trench":"…","conduit":"…","node":"…","written":<Unix time in seconds>,"vips":["20.0.0.1/32"],
//!  "leases":[{"name":"bridge","v4":"172.16.1.1/24","v6":"fd00::1/64"}]}
//! ```
//!
//! [`decode`] checks in this order: size, first line, version, checksum, content, conduit and node,
//! age.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::{MAX_AGE, Snapshot};
use crate::{
    api::Dual,
    ipam::{MAX_LEASES, Record, Subnet, Tag},
    proxy::vips::MAX_VIPS,
};

/// Version that is written, and the only one that is read.
const VERSION: &str = "1";
/// Start of the first line.
const MAGIC: &str = "meridio-proxy snapshot ";
/// Maximum size of a snapshot in bytes: the maximum numbers of leases and VIPs, with the longest
/// names, every character escaped.
pub(super) const MAX_BYTES: usize = 40 << 20;
/// Maximum length of the part of a text shown in a refusal, in characters.
const MAX_SHOWN: usize = 64;

/// The reason why bytes are not used as a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are too many bytes.
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// The first line is not that of a snapshot.
    #[error("its first line is not that of a snapshot")]
    NotASnapshot,
    /// A later or earlier program has written it.
    #[error("its version is `{0}` (accepted: {VERSION})")]
    Version(String),
    /// It is truncated or corrupt.
    #[error("its checksum is wrong: it is cut off or changed")]
    Checksum,
    /// Its checksum is right, but its content is not in the format of this version.
    #[error("its content is not accepted: {0}")]
    Content(String),
    /// It is of another conduit or node.
    #[error("it is of {0} (accepted: {1})")]
    Foreign(String, String),
    /// It is older than half an hour.
    #[error("it is {} s old (accepted: {} s)", .0.as_secs(), MAX_AGE.as_secs())]
    Old(Duration),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    trench: String,
    conduit: String,
    node: String,
    written: u64,
    vips: Option<Vec<String>>,
    leases: Vec<Lease>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v4: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v6: Option<String>,
}

/// The bytes of a snapshot of a conduit on a node, written at this time. A lease with a control
/// character in its name is left out: escaped, such a name would take six times the space of
/// others.
///
/// # Errors
/// [`Refusal::TooLarge`].
pub(super) fn encode(snapshot: &Snapshot, of: &Subnet, written: SystemTime) -> Result<Vec<u8>, Refusal> {
    let body = Body {
        trench: of.trench.clone(),
        conduit: of.conduit.clone(),
        node: of.node.clone(),
        written: seconds(written),
        vips: snapshot.vips.as_deref().map(|vips| vips.iter().map(IpNet::to_string).collect()),
        leases: snapshot
            .leases
            .iter()
            .filter(|record| is_plain(record))
            .map(|record| Lease {
                name: record.child.to_string(),
                owner: record.owner.as_ref().map(Tag::to_string),
                v4: record.addresses.v4.map(|net| net.to_string()),
                v6: record.addresses.v6.map(|net| net.to_string()),
            })
            .collect(),
    };
    let body = serde_json::to_vec(&body).map_err(content)?;
    let mut bytes = format!("{MAGIC}{VERSION} {}\n", checksum(&body)).into_bytes();
    bytes.extend(body);
    if bytes.len() > MAX_BYTES { Err(Refusal::TooLarge) } else { Ok(bytes) }
}

/// Decodes the snapshot of a conduit on a node, as of the time `now`.
///
/// # Errors
/// [`Refusal`].
pub(super) fn decode(bytes: &[u8], of: &Subnet, now: SystemTime) -> Result<Snapshot, Refusal> {
    let body: Body = serde_json::from_slice(verified(bytes)?).map_err(content)?;
    let from = Subnet { trench: body.trench, conduit: body.conduit, node: body.node };
    if from != *of {
        return Err(Refusal::Foreign(shown(&from), shown(of)));
    }
    // After a clock was set back, a snapshot may be from the future: it counts as new.
    let age = Duration::from_secs(seconds(now).saturating_sub(body.written));
    if age > MAX_AGE {
        return Err(Refusal::Old(age));
    }
    let count = (body.leases.len(), body.vips.as_ref().map_or(0, Vec::len));
    if count.0 > MAX_LEASES || count.1 > MAX_VIPS {
        return Err(Refusal::Content(format!("{} leases and {} VIPs", count.0, count.1)));
    }
    let vips = body.vips.map(|vips| vips.iter().map(|text| net(text)).collect()).transpose()?;
    let leases = body.leases.into_iter().map(record).collect::<Result<_, _>>()?;
    Ok(Snapshot { leases, vips })
}

/// The bytes after the first line, if that and the checksum are right.
fn verified(bytes: &[u8]) -> Result<&[u8], Refusal> {
    if bytes.len() > MAX_BYTES {
        return Err(Refusal::TooLarge);
    }
    let end = bytes.iter().take(256).position(|byte| *byte == b'\n').ok_or(Refusal::NotASnapshot)?;
    let line = &bytes[..end];
    let body = &bytes[end + 1..];
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(MAGIC));
    let (version, sum) = line.and_then(|line| line.split_once(' ')).ok_or(Refusal::NotASnapshot)?;
    if version != VERSION {
        return Err(Refusal::Version(version.chars().take(MAX_SHOWN).collect()));
    }
    if sum != checksum(body) {
        return Err(Refusal::Checksum);
    }
    Ok(body)
}

fn is_plain(record: &Record) -> bool {
    !record.child.contains(char::is_control)
}

fn record(lease: Lease) -> Result<Record, Refusal> {
    let parse = |text: Option<String>| text.map(|text| net(&text)).transpose();
    let addresses = Dual { v4: parse(lease.v4)?, v6: parse(lease.v6)? };
    let owner = lease.owner.map(|text| {
        Tag::read(&text).ok_or_else(|| {
            Refusal::Content(format!("`{}` is no owner", text.chars().take(MAX_SHOWN).collect::<String>()))
        })
    });
    Ok(Record { child: lease.name.into(), owner: owner.transpose()?, addresses })
}

fn net(text: &str) -> Result<IpNet, Refusal> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(MAX_SHOWN).collect();
        Refusal::Content(format!("`{text}` is no prefix"))
    })
}

fn content(error: serde_json::Error) -> Refusal {
    Refusal::Content(error.to_string().chars().take(2 * MAX_SHOWN).collect())
}

fn checksum(body: &[u8]) -> String {
    digest::digest(&digest::SHA256, body).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn shown(of: &Subnet) -> String {
    let short = |text: &str| text.chars().take(MAX_SHOWN).collect::<String>();
    let trench = short(&of.trench);
    let conduit = short(&of.conduit);
    let node = short(&of.node);
    format!("trench `{trench}`, conduit `{conduit}`, node `{node}`")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{chain::Owner, ipam::MAX_NAME};

    fn here() -> Subnet {
        Subnet { trench: "trench-a".into(), conduit: "load-balancer".into(), node: "node-a".into() }
    }

    fn then() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn sample() -> Snapshot {
        let record = |child: &str, owner: Option<&Owner>, v4: &str, v6: Option<&str>| Record {
            child: child.into(),
            owner: owner.map(Tag::of),
            addresses: Dual { v4: v4.parse().ok(), v6: v6.and_then(|text| text.parse().ok()) },
        };
        Snapshot {
            leases: vec![
                record("bridge", None, "172.16.1.1/24", Some("fd00::1/64")),
                record("target \"ä\"-src", Some(&Owner::new("spiffe://a.test/a")), "172.16.1.6/24", None),
            ],
            vips: Some(["20.0.0.1/32", "2000::/64"].map(|vip| vip.parse().unwrap()).into()),
        }
    }

    fn bytes() -> Vec<u8> {
        encode(&sample(), &here(), then()).unwrap()
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        for snapshot in [sample(), Snapshot::default(), Snapshot { vips: Some([].into()), ..sample() }] {
            let bytes = encode(&snapshot, &here(), then()).unwrap();
            assert_eq!(decode(&bytes, &here(), then() + MAX_AGE), Ok(snapshot));
        }
        assert_eq!(sample().gateways(), sample().leases[0].addresses);
        assert_eq!(Snapshot::default().gateways(), Dual::NONE);
    }

    #[test]
    fn a_snapshot_truncated_at_any_byte_is_refused() {
        let bytes = bytes();
        for length in 0..bytes.len() {
            let refusal = decode(&bytes[..length], &here(), then()).unwrap_err();
            assert!(matches!(refusal, Refusal::NotASnapshot | Refusal::Checksum), "{length}: {refusal}");
        }
    }

    #[test]
    fn a_snapshot_with_any_bit_flipped_is_refused() {
        let bytes = bytes();
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(decode(&flipped, &here(), then()).is_err(), "bit {bit} of byte {at}");
        }
    }

    #[test]
    fn a_snapshot_of_another_place_time_or_version_is_named() {
        let other = |change: fn(&mut Subnet)| {
            let mut there = here();
            change(&mut there);
            decode(&bytes(), &there, then()).unwrap_err().to_string()
        };
        let trench = other(|there| there.trench = "trench-b".into());
        let (found, accepted) = trench.split_once("accepted").unwrap();
        assert!(found.contains("`trench-a`") && accepted.contains("`trench-b`"), "{trench}");
        assert!(other(|there| there.conduit = "x".into()).contains("conduit `x`"));
        assert!(other(|there| there.node = "x".into()).contains("node `x`"));

        let late = decode(&bytes(), &here(), then() + MAX_AGE + Duration::from_secs(1)).unwrap_err();
        assert_eq!(late.to_string(), "it is 1801 s old (accepted: 1800 s)");
        assert!(decode(&bytes(), &here(), then() - MAX_AGE).is_ok(), "the clock was set back");

        for version in ["0", "2", "banana"] {
            let text = String::from_utf8(bytes()).unwrap();
            let text = text.replacen("snapshot 1 ", &format!("snapshot {version} "), 1);
            let refusal = decode(text.as_bytes(), &here(), then());
            assert_eq!(refusal, Err(Refusal::Version(version.into())));
        }
    }

    /// A body that this program does not write, under a valid checksum.
    fn decode_body(body: &str) -> Refusal {
        let bytes = format!("{MAGIC}{VERSION} {}\n{body}", checksum(body.as_bytes()));
        decode(bytes.as_bytes(), &here(), then()).unwrap_err()
    }

    #[test]
    fn content_that_this_version_does_not_write_is_named() {
        let place = r#""trench":"trench-a","conduit":"load-balancer","node":"node-a","written":1700000000"#;
        let table = [
            (String::new(), "EOF"),
            ("[]".into(), "invalid"),
            (format!(r#"{{{place},"vips":[],"leases":[],"more":1}}"#), "`more`"),
            (format!(r#"{{{place},"vips":["banana"],"leases":[]}}"#), "`banana` is no prefix"),
            (format!(r#"{{{place},"vips":[],"leases":[{{"name":"a","v4":"1.2.3.4/99"}}]}}"#), "`1.2.3.4/99`"),
            (format!(r#"{{{place},"vips":[],"leases":[{{"name":"a","owner":"me"}}]}}"#), "`me` is no owner"),
            (
                format!(r#"{{{place},"vips":[{}],"leases":[]}}"#, vec!["\"\""; MAX_VIPS + 1].join(",")),
                "20001",
            ),
        ];
        for (body, expected) in table {
            let text = decode_body(&body).to_string();
            assert!(text.contains(expected) && text.len() < 256, "{text}");
        }
    }

    #[test]
    fn the_size_is_bounded_and_the_most_leases_fit() {
        let longest = Record {
            child: "\"".repeat(MAX_NAME).into(),
            owner: Some(Tag::of(&Owner::new("spiffe://a.test/a"))),
            addresses: Dual {
                v4: "255.255.255.255/24".parse().ok(),
                v6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/64".parse().ok(),
            },
        };
        let vip: IpNet = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap();
        let of = |leases: usize, vips: usize| {
            let vips = Some(vec![vip; vips].into());
            encode(&Snapshot { leases: vec![longest.clone(); leases], vips }, &here(), then()).unwrap().len()
        };
        let lease = of(2, 0) - of(1, 0);
        let one_vip = of(0, 2) - of(0, 1);
        let most = of(1, 1) + lease * MAX_LEASES + one_vip * MAX_VIPS;
        assert!((MAX_BYTES / 2..MAX_BYTES).contains(&most), "{most}");
        let control = Record { child: "a\u{1}".into(), owner: None, addresses: Dual::NONE };
        let none = encode(&Snapshot { leases: vec![control], vips: None }, &here(), then()).unwrap();
        assert_eq!(decode(&none, &here(), then()), Ok(Snapshot::default()));
        assert_eq!(decode(&vec![b' '; MAX_BYTES + 1], &here(), then()), Err(Refusal::TooLarge));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn bytes_of_any_kind_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(decode(&bytes, &here(), then()).is_err());
        }
    }
}
