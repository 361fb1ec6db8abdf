// SPDX-License-Identifier: Apache-2.0

//! Sends every kind of bad input to the proxy: each is answered or logged by name, costs bounded
//! memory and time, and leaves the state unchanged. A good call or start afterwards works.
#![allow(clippy::unwrap_used)]

mod admin;
mod around;
mod counts;
mod descriptors;
mod log;
mod messages;
mod peers;
mod process;
#[path = "../program/mod.rs"]
mod program;
mod row;
mod services;
mod snapshots;
mod starts;
mod target;
mod tokens;
mod turns;
mod world;

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use nsm::testing::Lines;
use row::{
    Done::{self, Serving, Starting},
    Row,
    Says::{Answers, Log as InLog, Status},
};
use tonic::Code::{
    DeadlineExceeded, InvalidArgument, OutOfRange, PermissionDenied, ResourceExhausted, Unavailable, Unknown,
};
use world::World;

/// A row for a serving proxy: the bad input, the function that sends it, and the expected report.
macro_rules! serving {
    ($input:literal, $done:path, $says:expr) => {
        Row { input: $input, done: Serving(|world| Box::pin($done(world))), says: $says }
    };
}

/// A row for a starting process.
macro_rules! starting {
    ($input:literal, $done:path, $($text:literal),+) => {
        Row { input: $input, done: Starting(|place, texts| Box::pin($done(place, texts))), says: InLog(&[$($text),+]) }
    };
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    starting!("malformed variables", starts::malformed_variables, "critical", "IP_FAMILY", "ipv5", "ipv4, ipv6 or dualstack"),
    starting!("a variable of 100 kB", starts::giant_variable, "critical", "NSM_TRENCH", "1 to 253 letters"),
    starting!("no CAP_NET_ADMIN", starts::no_net_admin, "critical", "CAP_NET_ADMIN is missing", "setcap"),
    starting!("no nsmgr socket", starts::no_nsmgr, "start waits", "nsmgr, to register", "nsm.io.sock", "No such file"),
    starting!("snapshot damaged", snapshots::damaged, "the snapshot is not used and set aside", "first line", "snapshot.refused"),
    starting!("snapshot cut off", snapshots::cut_off, "the snapshot is not used and set aside", "checksum is wrong", "snapshot.refused"),
    starting!("snapshot of another trench", snapshots::of_another_trench, "the snapshot is not used and set aside", "trench `other`", "accepted: trench `trench`"),
    starting!("snapshot of a future version", snapshots::of_a_future_version, "the snapshot is not used and set aside", "its version is `2` (accepted: 1)"),
    starting!("snapshot that others may write", snapshots::of_others, "the snapshot is not used and set aside", "its mode is 666 (accepted: 600)"),
    starting!("disk of the snapshot full", snapshots::disk_full, "degraded", "the snapshot is not written, the last one stays", "No space left on device"),
    starting!("folder of the snapshot missing", snapshots::no_folder, "degraded", "the snapshot is not written, the last one stays", "No such file"),
    starting!("no IPAM and no NSP but a snapshot", snapshots::without_services, "an earlier process left a snapshot"),
    starting!("Workload API silent", starts::silent_agent, "start waits", "the Workload API has not been heard"),
    starting!("Workload API late", starts::late_agent, "start waits", "the Workload API cannot be reached", "agent.sock"),
    starting!("Workload API late with the entry", starts::late_entry, "start waits", "the Workload API refuses", "no identity issued"),
    starting!("Workload API gives an expired SVID", starts::expired_svid, "start waits", "`spiffe://a.test/ns/default/pod/px` has expired"),
    starting!("Workload API gives a foreign SVID", starts::foreign_svid, "start waits", "`spiffe://a.test/ns/default/pod/px` is not of the bundle"),
    starting!("Workload API gives a mutilated SVID", starts::mutilated_svid, "start waits", "the Workload API gave an SVID that cannot be used", "parse"),
    starting!("admin address taken", admin::address_taken, "no admin listener", "127.0.0.1:9090", "Address already in use", "set NSM_ADMIN_ADDRESS"),
    starting!("admin address that others reach", admin::address_of_others, "NSM_ADMIN_ADDRESS", "0.0.0.0:9090", "there is no admin listener"),
    starting!("1000 admin requests at once and slow ones", admin::crowded, "admin listener", "127.0.0.1:9090"),
    starting!("netlink permission denied", starts::netlink_denied, "degraded", "bridge0", "Operation not permitted"),

    serving!("peer without certificate", peers::without_certificate, InLog(&["connection rejected", "the peer showed no certificate (accepted: an X.509 SVID)"])),
    serving!("peer with a foreign certificate", peers::of_another_domain, InLog(&["connection rejected", "no bundle for the trust domain of `spiffe://b.test/ns/default/pod/x`"])),
    serving!("peer with an expired certificate", peers::expired, InLog(&["connection rejected", "`spiffe://a.test/ns/default/pod/x` has expired"])),
    serving!("peer with an impostor's certificate", peers::of_an_impostor, InLog(&["connection rejected", "`spiffe://a.test/ns/default/pod/x` is not of the bundle"])),
    serving!("peer without HTTP/2", peers::without_http2, InLog(&["connection rejected", "the peer offers no HTTP/2 (accepted: ALPN h2)"])),
    serving!("peer without TLS", peers::without_tls, InLog(&["connection rejected", "TLS handshake failed"])),

    serving!("1100 peers that are silent", peers::silent, InLog(&["connection rejected", "128 connections wait for their handshake (at most 128), and this one is silent"])),

    serving!("token missing", tokens::missing, Status(PermissionDenied, &["authorize", "tokens_valid: segment 0 has no token"])),
    serving!("token of garbage", tokens::garbage, Status(PermissionDenied, &["tokens_valid: segment 0 has no token"])),
    serving!("token twice", tokens::twice, Status(PermissionDenied, &["tokens_valid: segment 0 has no token"])),
    serving!("token of 17,000 bytes", tokens::giant, Status(PermissionDenied, &["tokens_valid: segment 0 has no token"])),
    serving!("token expired", tokens::expired, Status(PermissionDenied, &["tokens_expired: the token of segment 0 has expired"])),
    serving!("token wrongly chained", tokens::wrongly_chained, Status(PermissionDenied, &["tokens_chained: the token of segment 0"])),
    serving!("token signed by another", tokens::signed_by_another, Status(PermissionDenied, &["prev_token_signed: the caller `spiffe://a.test/ns/default/pod/target`"])),
    serving!("Close with a token signed by another", tokens::close_signed_by_another, Status(PermissionDenied, &["prev_token_signed: the caller `spiffe://a.test/ns/default/pod/target`"])),

    serving!("path index out of range", messages::index_out_of_range, Status(InvalidArgument, &["path index 4294967295 is not within 1 segments"])),
    serving!("path segment of another connection", messages::segment_of_another, Status(InvalidArgument, &["path segment `bad` is not connection `other`"])),
    serving!("10,000 segments", messages::segments, Status(ResourceExhausted, &["10000 path segments (at most 64)"])),
    serving!("1 MiB of labels", messages::labels, Status(ResourceExhausted, &["1048587 bytes of labels", "(at most 65536)"])),
    serving!("message of 5 MiB", messages::message, Status(OutOfRange, &["message length too large", "4194304"])),
    serving!("id of 1 MiB", messages::id, Status(ResourceExhausted, &["1048576 bytes of connection id (at most 1024)"])),
    serving!("10,000 preferences", messages::preferences, Status(ResourceExhausted, &["10000 mechanism preferences (at most 64)"])),
    serving!("100,000 addresses", messages::addresses, Status(ResourceExhausted, &["100000 src_ip_addrs (at most 20480)"])),
    serving!("no connection in the Request", messages::no_connection, Status(InvalidArgument, &["the request has no connection"])),
    serving!("malformed grpc-timeout", messages::no_time, Status(InvalidArgument, &["grpc-timeout is `soon`", "1 to 8 digits"])),

    serving!("unknown mechanism", messages::unknown_mechanism, Status(Unknown, &["mechanism", "[VFIO, MEMIF] (supported: KERNEL, NOOP)"])),
    serving!("interface name too long", messages::long_interface_name, Status(InvalidArgument, &["`name`: `sixteen-letters-` is not an interface name", "1 to 15 bytes"])),
    serving!("interface name of 60 kB", messages::giant_interface_name, Status(InvalidArgument, &["is not an interface name", "1 to 15 bytes"])),
    serving!("interface name of another connection", messages::interface_name_of_another, Status(Unknown, &["is that of another connection", "accepted: a name of your own"])),
    serving!("name of the primary interface", messages::primary_interface, Status(Unknown, &["`eth0`", "belongs to no connection"])),

    serving!("address that is a word", messages::address_of_a_word, Status(InvalidArgument, &["ip_context.src_ip_addrs", "`banana`"])),
    serving!("policy for a word", messages::policy_for_a_word, Status(InvalidArgument, &["ip_context.policies.from", "`vip-a`"])),
    serving!("every prefix excluded", messages::everything_excluded, Status(Unknown, &["overlaps the excluded prefix 0.0.0.0/0", "accepted: prefixes outside of"])),
    serving!("address of a service as VIP", messages::address_of_a_service, InLog(&["leaves out addresses of a target", "10.96.0.10/32"])),

    serving!("inode URL whose descriptor never comes, to a proxy that needs none", descriptors::never_comes, Answers),
    serving!("inode URL whose descriptor never comes, to a chain that needs it", descriptors::never_comes_where_it_is_needed, Status(Unavailable, &["recv_fd", "the descriptor of inode://4/4026531833 did not come"])),
    serving!("descriptors nobody claims", descriptors::nobody_claims, InLog(&["descriptors that nobody claims here are refused"])),
    serving!("descriptors nobody claims where one could", descriptors::nobody_claims_where_one_could, InLog(&["more descriptors than anybody claims: the oldest are closed", "256"])),
    serving!("257 descriptors with a call", descriptors::too_many_for_one_call, Status(ResourceExhausted, &["257 descriptors", "accepted: 256"])),

    serving!("IPAM exhausted", services::ipam_exhausted, Status(ResourceExhausted, &["no IPv4 address for `bad-", "no more prefix available"])),
    serving!("IPAM slow", services::ipam_slow, Status(DeadlineExceeded, &["ipam: deadline passed ["])),
    serving!("IPAM down", services::ipam_down, Status(Unavailable, &["no IPv4 address for `bad-", "ipam.sock"])),
    serving!("IPAM of another trench", services::ipam_refuses, Status(Unknown, &["no IPv4 address for `bad-", "refused: no corresponding trench"])),
    serving!("IPAM answering a word", services::ipam_answers_a_word, Status(Unavailable, &["no IPv4 address for `bad-", "`banana/24`: not an address (accepted: one IPv4 host address"])),
    serving!("IPAM answering 1 MiB", services::ipam_answers_a_megabyte, Status(Unavailable, &["no IPv4 address for `bad-", "not an address"])),
    serving!("IPAM answering an impossible length", services::ipam_answers_an_impossible_length, Status(Unavailable, &["`169.255.0.9/99`: the prefix length is out of range"])),

    serving!("NSP with duplicates", services::nsp_duplicates, InLog(&["error", "in the list already", "again", "20.0.0.1/32"])),
    serving!("NSP with a nonsense prefix", services::nsp_nonsense, InLog(&["error", "no prefix (accepted: 20.0.0.1/32", "word", "banana"])),
    serving!("NSP with the prefix of everything", services::nsp_everything, InLog(&["error", "accepted: prefix lengths from 1", "all", "0.0.0.0/0"])),
    serving!("NSP with one VIP too many", services::nsp_too_many, InLog(&["error", "too many VIPs: the last list stays", "20001", "20000"])),
    serving!("NSP down", services::nsp_down, InLog(&["no watch of VIPs; those known stay", "interrupted"])),

    serving!("netlink permission denied while a target connects", services::netlink_denied, InLog(&["degraded", "Operation not permitted"])),
    serving!("netlink permission denied to look", services::netlink_unreadable, InLog(&["the kernel cannot be read", "Operation not permitted"])),

    serving!("two Requests at once for one id", turns::two_requests, Answers),
    serving!("two first Requests at once of one client", turns::two_requests_without_our_segment, Answers),
    serving!("twenty Requests at once for one id", turns::many_requests, Status(ResourceExhausted, &["8 calls of this connection wait already (at most 8)", "[bad-at-px]"])),
    serving!("Request and Close at once for one id", turns::request_and_close, Answers),
    serving!("a caller that goes away mid-call, with its connection", turns::caller_goes_away, InLog(&["the caller no longer waits for the answer", "send_fd"])),
    serving!("a caller that gives up mid-call", turns::caller_gives_up, InLog(&["the caller did not refresh in time: closing", "\"client\":\"bad\""])),
];

/// Held by each test, because open descriptors of this process are counted.
static ALONE: Mutex<()> = Mutex::new(());

fn rows(which: fn(&Done) -> bool) -> Vec<&'static Row> {
    let rows: Vec<_> = TABLE.iter().filter(|row| which(&row.done)).collect();
    assert!(!rows.is_empty());
    rows
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} of {} rows are wrong:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}

/// Number of failed rows after which the rest is skipped: each may take its whole time.
const MAX_WRONG: usize = 5;

/// One proxy receives all of them in turn; after a failed row, the next one gets a new proxy.
async fn all_in_turn(log: Lines) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut world = None;
    for row in rows(|done| matches!(done, Serving(_))) {
        let serving = match world.take() {
            Some(serving) => serving,
            None => World::start(log.clone()).await,
        };
        match row::check(&serving, row).await {
            Ok(()) => world = Some(serving),
            Err(why) => {
                wrong.push(format!("{}: {why}", row.input));
                serving.end().await;
                if wrong.len() == MAX_WRONG {
                    break;
                }
            }
        }
    }
    if let Some(serving) = world {
        serving.end().await;
    }
    wrong
}

#[test]
fn a_serving_proxy_reports_bad_input_and_is_unchanged() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let log = Lines::default();
    let _logged = log::of_this_thread(&log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    report(&runtime.block_on(all_in_turn(log)));
}

/// All at once, because they mostly wait.
#[test]
fn a_failing_start_names_the_cause_and_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = rows(|done| matches!(done, Starting(_)));
    let started: Vec<_> =
        rows.iter().copied().map(|row| thread::spawn(move || process::check(row))).collect();
    let ended = rows.iter().zip(started).map(|(row, check)| (row.input, check.join()));
    let wrong = ended.filter_map(|(input, checked)| {
        let why = checked.unwrap_or_else(|_| Err("panicked".into())).err()?;
        Some(format!("{input}: {why}"))
    });
    report(&wrong.collect::<Vec<_>>());
}
