// SPDX-License-Identifier: Apache-2.0
//! Checks that each deliberate mistake fails a case, for its own reason: the cases detect the
//! mistakes that they claim to detect.

use std::sync::Arc;

use nsm::{
    chain::{Chain, Next},
    transport::{Dialer, Peer},
};

use crate::{
    corrupt::{self, NamedOnly, NoDescriptor, NoExpiry, WrongIndex},
    from_go::{answer, answering, at_our_endpoint},
    ours::netns,
    programs::Outcome,
    registration::through,
    registries,
    registry_case::client,
    to_go::{at_a_go_endpoint, connected},
};

/// The outcome is a failure with this reason.
fn red(outcome: Outcome<()>, why: &str) -> Outcome<()> {
    match outcome {
        Err(error) if error.contains(why) => Ok(()),
        Err(error) => Err(format!("red for another reason than {why:?}: {error}")),
        Ok(()) => Err("green in spite of the mutation".to_owned()),
    }
}

/// A client chain whose end is written by hand.
fn by_hand(rows: Chain, dialer: Dialer, audience: Option<Peer>) -> Outcome<Next> {
    let end = corrupt::ByHand { dialer, audience: audience.map(Arc::new) };
    rows.end(tower::service_fn(move |call| end.clone().call(call))).build().map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_token_for_another_audience_turns_our_client_red() -> Outcome<()> {
    at_a_go_endpoint(|_, rows, dialer| by_hand(rows, dialer, None)).await?;
    let outcome = at_a_go_endpoint(|node, rows, dialer| {
        let other = Peer::of(&node.issue("other").certificate).map_err(|error| error.to_string())?;
        by_hand(rows, dialer, Some(other))
    });
    red(outcome.await, "no sufficient privileges")
}

#[tokio::test]
async fn a_path_index_of_another_hop_turns_our_client_red() -> Outcome<()> {
    let outcome = at_a_go_endpoint(|_, rows, dialer| connected(rows.with(WrongIndex), dialer));
    red(outcome.await, "Path.Index+1==2 should be less or equal")
}

#[tokio::test]
async fn a_descriptor_that_is_not_sent_turns_our_client_red() -> Outcome<()> {
    let outcome = at_a_go_endpoint(|_, rows, dialer| connected(rows.with(NoDescriptor), dialer));
    red(outcome.await, "deadline")
}

#[tokio::test]
async fn a_descriptor_that_is_not_sent_turns_our_endpoint_red() -> Outcome<()> {
    let outcome = at_our_endpoint(|rows| answer(rows.with(NamedOnly(netns()?.inode()))));
    red(outcome.await, "deadline exceeded")
}

#[tokio::test]
async fn a_segment_without_expiry_turns_our_endpoint_red() -> Outcome<()> {
    let outcome = at_our_endpoint(|rows| {
        Chain::new().with(NoExpiry).end(answering(rows)?).build().map_err(|error| error.to_string())
    });
    red(outcome.await, "a segment does not say when it expires")
}

#[tokio::test]
async fn a_register_without_path_header_turns_our_registration_red() -> Outcome<()> {
    let by_hand = |header| {
        move |dialer: &Dialer| registries::ByHand { inner: client(dialer), dialer: dialer.clone(), header }
    };
    through(by_hand(true)).await?;
    red(through(by_hand(false)).await, "policy check")
}
