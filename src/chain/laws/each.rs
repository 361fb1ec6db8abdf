// SPDX-License-Identifier: Apache-2.0

//! The laws, one by one.

use std::sync::atomic::Ordering::SeqCst;

use super::{
    Broken, POLLS, broken,
    rig::{Rig, What},
};

/// Checks all of them, each in a new rig.
pub(super) async fn check_all<'a>(rig: impl AsyncFn() -> Result<Rig<'a>, Broken>) -> Result<(), Broken> {
    passes_on(rig().await?).await?;
    failure_leaves_nothing(rig().await?).await?;
    stop_leaves_nothing(rig().await?).await?;
    close_undoes_even_twice_and_after_a_failure(rig().await?).await?;
    refresh_replaces(rig().await?).await?;
    for polls in 0..POLLS {
        if cut_leaves_nothing(rig().await?, polls).await? {
            return Ok(());
        }
    }
    broken("cut", format!("is not done after {POLLS} polls"))
}

async fn passes_on(rig: Rig<'_>) -> Result<(), Broken> {
    let law = "passes on";
    rig.good(law, What::Request).await?;
    rig.good(law, What::Close).await?;
    match rig.inner.requests.load(SeqCst) {
        0 => broken(law, "the Request did not arrive".into()),
        _ if rig.inner.closes.load(SeqCst) == 0 => broken(law, "the Close did not arrive".into()),
        _ => Ok(()),
    }
}

async fn failure_leaves_nothing(rig: Rig<'_>) -> Result<(), Broken> {
    let before = rig.held();
    rig.bad("failure", What::Request).await?;
    rig.held().same("failure of a first Request", &before)?;
    rig.good("Close of the unknown", What::Close).await?;
    rig.held().same("Close of the unknown", &before)?;
    rig.good("refresh", What::Request).await?;
    let before = rig.held();
    rig.bad("failure", What::Request).await?;
    rig.held().same("failure of a refresh", &before)
}

async fn stop_leaves_nothing(mut rig: Rig<'_>) -> Result<(), Broken> {
    let before = rig.held();
    rig.good("stop", What::Request).await?;
    rig.stop().await;
    rig.held().same("stop without a Close", &before)
}

async fn close_undoes_even_twice_and_after_a_failure(mut rig: Rig<'_>) -> Result<(), Broken> {
    let before = rig.held();
    for law in ["Close twice", "Request again after Close"] {
        rig.good(law, What::Request).await?;
        rig.bad("Close that fails", What::Close).await?;
        rig.good(law, What::Close).await?;
        rig.good(law, What::Close).await?;
        rig.end(law).await?;
        rig.held().same(law, &before)?;
    }
    Ok(())
}

async fn refresh_replaces(rig: Rig<'_>) -> Result<(), Broken> {
    let law = "refresh replaces, it does not add";
    rig.good(law, What::Request).await?;
    let first = rig.held();
    rig.good(law, What::Request).await?;
    rig.held().as_many(law, &first)
}

/// Cancel a first Request, a refresh and a Close after `polls` polls; returns true if none needed
/// that many.
async fn cut_leaves_nothing(mut rig: Rig<'_>, polls: usize) -> Result<bool, Broken> {
    let start = rig.held();
    let first = rig.call(What::Request, polls).await.is_some();
    if first || rig.has_lane() {
        rig.end("cut of a first Request").await?;
    }
    rig.held().same("cut of a first Request", &start)?;
    rig.good("cut", What::Request).await?;
    let before = rig.held();
    let refresh = rig.call(What::Request, polls).await.is_some();
    match (refresh, rig.has_lane()) {
        (false, false) => rig.held().same("cut of a refresh", &before)?,
        _ => rig.held().as_many("cut of a refresh", &before)?,
    }
    let before = rig.held();
    let close = rig.call(What::Close, polls).await.is_some();
    rig.held().no_more("cut of a Close", &before)?;
    rig.good("Close after a cut Close", What::Close).await?;
    rig.end("cut of a Close").await?;
    rig.held().same("cut of a Close", &start)?;
    Ok(first && refresh && close)
}
