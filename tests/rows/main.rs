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
fn rows() -> impl Iterator<Item = (Side, &'static str, &'static str)> {
    let endpoint = endpoint::ROWS.iter().map(|(row, promise)| (Side::Endpoint, *row, *promise));
    let client = client::ROWS.iter().map(|(row, promise)| (Side::Client, *row, *promise));
    endpoint.chain(client)
}

/// Checks one promise on a separate thread, so that it has its own spans.
fn run(setup: Setup) -> Checked {
    thread::spawn(move || {
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
    })
    .join()
    .unwrap_or_else(|_| Err("panicked".into()))
}

const LIMIT: Duration = Duration::from_secs(20);

/// Checks all promises at once, because they mostly wait.
fn run_all(removed: bool) -> Vec<(String, Checked)> {
    let started = rows().map(|(side, row, promise)| {
        let check = thread::spawn(move || run(Setup { side, row, removed }));
        (format!("{side:?} {row}: {promise}"), check)
    });
    let started: Vec<_> = started.collect();
    started.into_iter().map(|(promise, check)| (promise, check.join().unwrap())).collect()
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
        let rows: Vec<_> = rows().filter(|row| row.0 == side).map(|row| row.1).collect();
        assert_eq!(rows.join(" → "), *printed, "{side:?}");
    }
    rig.end().await;
}
