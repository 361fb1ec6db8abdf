// SPDX-License-Identifier: Apache-2.0

//! Removes each row of the proxy's two chains in turn: a named promise must break, and must hold
//! with the row in place.
//!
//! Both chains run over real unix sockets with mTLS, below a target and above a load balancer;
//! kernel and IPAM are in memory.
#![allow(clippy::unwrap_used)]

mod client;
mod endpoint;
mod rig;
mod spans;

use std::{thread, time::Duration};

use rig::{Checked, Rig, Setup, Side};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt};

/// Side, row, and the promise that breaks without it. In the order of the chains.
const ROWS: [(Side, &str, &str); 29] = [
    (Side::Endpoint, "trace", "a call has a span"),
    (Side::Endpoint, "update_path", "the answer has a segment of the proxy, and the caller's index and id"),
    (Side::Endpoint, "update_token", "the proxy signs its segment, so that a valid caller is accepted"),
    (Side::Endpoint, "authorize", "a path that does not lead to the caller is denied"),
    (Side::Endpoint, "begin", "what a Request declares stays true after it"),
    (Side::Endpoint, "metadata", "a refresh that fails leaves the state of the last good one"),
    (Side::Endpoint, "timeout", "a connection whose caller does not refresh is closed"),
    (Side::Endpoint, "monitor", "peers see the connection"),
    (Side::Endpoint, "trim_path", "segments of an earlier endpoint are not answered"),
    (Side::Endpoint, "mechanism", "the answer has an interface name"),
    (Side::Endpoint, "ipam", "the answer has addresses and gateways"),
    (Side::Endpoint, "bridge", "the target's link becomes a port"),
    (Side::Endpoint, "mtu", "the answer has the MTU of the conduit"),
    (Side::Endpoint, "send_fd", "the descriptor of the network namespace comes with the answer"),
    (Side::Client, "trace", "a call has a span"),
    (Side::Client, "update_path", "the load balancer sees a segment of the proxy"),
    (Side::Client, "begin", "what a Request declares stays true after it"),
    (Side::Client, "metadata", "a refresh that fails leaves the state of the last good one"),
    (Side::Client, "refresh", "the connection is refreshed before its tokens expire"),
    (Side::Client, "heal", "a connection that the load balancer reports as down is requested again"),
    (Side::Client, "mechanism", "the load balancer is asked for a kernel interface with a name"),
    (Side::Client, "ipam", "the load balancer is told the addresses of both ends"),
    (Side::Client, "egress", "the connection counts as egress"),
    (Side::Client, "source_route", "the load balancer becomes a next hop"),
    (Side::Client, "bridge", "the load balancer's link becomes a port"),
    (Side::Client, "mtu", "the load balancer is told the MTU of the conduit"),
    (Side::Client, "send_fd", "the descriptor of the network namespace comes with the Request"),
    (Side::Client, "authorize", "an answer that nobody signed is denied"),
    (Side::Client, "connect", "the load balancer is called"),
];

/// Checks one promise on a separate thread, so that it has its own spans.
fn run(setup: Setup) -> Checked {
    let check = move || {
        let spans = spans::Names::default();
        let ours = Targets::new().with_target("nsm", tracing::Level::DEBUG);
        let subscriber = tracing_subscriber::registry().with(spans.clone().with_filter(ours));
        let _on = tracing::subscriber::set_default(subscriber);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new(setup, spans).await;
            let check = async {
                match setup.side {
                    Side::Endpoint => endpoint::check(&rig, setup.row).await,
                    Side::Client => client::check(&rig, setup.row).await,
                }
            };
            let checked = tokio::time::timeout(LIMIT, check).await;
            rig.end().await;
            checked.unwrap_or_else(|_| Err("not done in time".into()))
        })
    };
    thread::spawn(check).join().unwrap_or_else(|_| Err("panicked".into()))
}

const LIMIT: Duration = Duration::from_secs(20);

/// Checks all promises at once, because they mostly wait.
fn run_all(removed: bool) -> Vec<(String, Checked)> {
    let started = ROWS.map(|(side, row, promise)| {
        let check = thread::spawn(move || run(Setup { side, row, removed }));
        (format!("{side:?} {row}: {promise}"), check)
    });
    started.map(|(promise, check)| (promise, check.join().unwrap())).into()
}

#[test]
fn every_promise_holds_with_all_rows_in_place() {
    let broken = run_all(false).into_iter().filter_map(|(promise, checked)| Some((promise, checked.err()?)));
    let broken: Vec<_> = broken.map(|(promise, why)| format!("{promise}: {why}")).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_promise_breaks_without_its_row() {
    let kept = run_all(true).into_iter().filter(|(_, checked)| checked.is_ok());
    let kept: Vec<_> = kept.map(|(promise, _)| promise).collect();
    assert!(kept.is_empty(), "still true without the row:\n{}", kept.join("\n"));
}

#[tokio::test]
async fn the_table_has_every_row_of_both_chains_in_their_order() {
    let setup = Setup { side: Side::Endpoint, row: "trace", removed: false };
    let rig = Rig::new(setup, spans::Names::default()).await;
    for (side, printed) in [(Side::Endpoint, &rig.printed.0), (Side::Client, &rig.printed.1)] {
        let rows: Vec<_> = ROWS.iter().filter(|row| row.0 == side).map(|row| row.1).collect();
        assert_eq!(rows.join(" → "), *printed, "{side:?}");
    }
    rig.end().await;
}
