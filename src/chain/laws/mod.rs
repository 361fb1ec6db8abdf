// SPDX-License-Identifier: Apache-2.0

//! Conformance tests that every element must pass, run with one line per element.
//!
//! ```
//! # use meridio_proxy::chain::{Element, laws};
//! /// Passes every call on.
//! struct Pass;
//! impl Element for Pass {
//!     const NAME: &'static str = "pass";
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! laws::check(|| Pass).await.unwrap();
//! # }
//! ```
//! After each check, the connection's scope, the number of tasks and the witness (a count of what the element holds outside the
//! chain) must be the same as before the call that failed, was cancelled or was undone. Run it in its own current-thread runtime
//! with paused time: tasks are counted in the whole runtime, so a bare `tokio::spawn` is detected too.

mod rig;

use std::sync::atomic::Ordering::SeqCst;

use self::rig::{Held, Rig, What, broken};
use crate::chain::Element;

/// Maximum number of polls a call of an element may need.
const POLLS: usize = 1000;

/// A law that an element violates.
#[derive(Debug, thiserror::Error)]
#[error("{law}: {what}")]
pub struct Broken {
    /// Name of the law.
    pub law: &'static str,
    /// What was observed.
    pub what: String,
}

/// Check an element that holds nothing outside the chain.
///
/// # Errors
/// The first law that is violated.
pub async fn check<E: Element>(make: impl Fn() -> E) -> Result<(), Broken> {
    check_with(make, || 0).await
}

/// Check an element that holds resources outside the chain; `witness` counts them.
///
/// # Errors
/// The first law that is violated.
pub async fn check_with<E: Element>(make: impl Fn() -> E, witness: impl Fn() -> usize) -> Result<(), Broken> {
    let rig = || Rig::around(make(), &witness);
    passes_on(rig().await).await?;
    failure_leaves_nothing(rig().await).await?;
    stop_leaves_nothing(rig().await).await?;
    close_undoes_even_twice_and_after_a_failure(rig().await).await?;
    refresh_replaces(rig().await).await?;
    for polls in 0..POLLS {
        if cut_leaves_nothing(rig().await, polls).await? {
            return Ok(());
        }
    }
    broken("cut", format!("is not done after {POLLS} polls"))
}

async fn passes_on(mut rig: Rig<'_>) -> Result<(), Broken> {
    let law = "passes on";
    rig.good(law, What::Request).await?;
    rig.good(law, What::Close).await?;
    match rig.inner.requests.load(SeqCst) {
        0 => broken(law, "the Request did not arrive".into()),
        _ if rig.inner.closes.load(SeqCst) == 0 => broken(law, "the Close did not arrive".into()),
        _ => Ok(()),
    }
}

async fn failure_leaves_nothing(mut rig: Rig<'_>) -> Result<(), Broken> {
    let before = rig.held();
    rig.bad("failure", What::Request).await?;
    rig.same("failure of a first Request", &before)?;
    rig.good("Close of the unknown", What::Close).await?;
    rig.same("Close of the unknown", &before)?;
    rig.good("refresh", What::Request).await?;
    let before = rig.held();
    rig.bad("failure", What::Request).await?;
    rig.same("failure of a refresh", &before)
}

async fn stop_leaves_nothing(mut rig: Rig<'_>) -> Result<(), Broken> {
    let before = rig.held();
    rig.good("stop", What::Request).await?;
    rig.end().await;
    rig.same("stop without a Close", &before)
}

async fn close_undoes_even_twice_and_after_a_failure(mut rig: Rig<'_>) -> Result<(), Broken> {
    let before = rig.held();
    for law in ["Close twice", "Request again after Close"] {
        rig.good(law, What::Request).await?;
        rig.bad("Close that fails", What::Close).await?;
        rig.good(law, What::Close).await?;
        rig.good(law, What::Close).await?;
        rig.end().await;
        rig.same(law, &before)?;
    }
    Ok(())
}

async fn refresh_replaces(mut rig: Rig<'_>) -> Result<(), Broken> {
    let law = "refresh replaces, it does not add";
    rig.good(law, What::Request).await?;
    let first = rig.held();
    rig.good(law, What::Request).await?;
    let second = rig.held();
    let names = |held: &Held| held.scope.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    if (names(&first), first.tasks, first.witness) == (names(&second), second.tasks, second.witness) {
        return Ok(());
    }
    broken(law, format!("{first:?} became {second:?}"))
}

/// Cancel a first Request, a refresh and a Close after `polls` polls; returns true if none needed that many.
async fn cut_leaves_nothing(mut rig: Rig<'_>, polls: usize) -> Result<bool, Broken> {
    let start = rig.held();
    let first = rig.call(What::Request, polls).await.is_some();
    if first {
        rig.end().await;
    }
    rig.same("cut of a first Request", &start)?;
    rig.good("cut", What::Request).await?;
    let before = rig.held();
    let refresh = rig.call(What::Request, polls).await.is_some();
    if !refresh {
        rig.same("cut of a refresh", &before)?;
    }
    let close = rig.call(What::Close, polls).await.is_some();
    rig.good("Close after a cut Close", What::Close).await?;
    rig.end().await;
    rig.same("cut of a Close", &start)?;
    Ok(first && refresh && close)
}
