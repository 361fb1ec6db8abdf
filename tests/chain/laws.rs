// SPDX-License-Identifier: Apache-2.0

//! The laws hold for small elements, and catch what breaks them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use meridio_proxy::{
    api::Connection,
    chain::{Element, Next, Request, Result, laws},
};

use crate::samples::*;

#[tokio::test(start_paused = true)]
async fn mtu_keeps_the_laws() {
    laws::check(|| Mtu(1500)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refresh_keeps_the_laws() {
    laws::check(|| Refresh(Duration::from_secs(60))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn code_after_an_await_is_caught() {
    let broken = laws::check(|| Forgetful).await.unwrap_err();
    println!("{broken}");
    assert_eq!(broken.law, "cut of a first Request");
}

/// Counts ports and gives them back by hand.
struct ByHand(Arc<AtomicUsize>);
impl Element for ByHand {
    const NAME: &'static str = "by_hand";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        self.0.fetch_add(1, SeqCst);
        let answer = next.request(request).await;
        self.0.fetch_sub(1, SeqCst);
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_outside_is_caught_by_a_witness() {
    let ports = Arc::new(AtomicUsize::new(0));
    let make = || ByHand(Arc::clone(&ports));
    let broken = laws::check_with(make, || ports.load(SeqCst)).await;
    assert_eq!(broken.unwrap_err().law, "cut of a first Request");
}

/// Puts its guard where a guard belongs, but adds one with every refresh.
struct Hoarder;
struct Pile(#[expect(dead_code, reason = "a guard")] Vec<meridio_proxy::chain::Task>);
impl Element for Hoarder {
    const NAME: &'static str = "hoarder";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let (scope, events) = (request.context.scope.clone(), request.context.events.clone());
        let more = usize::from(scope.get::<Pile>().is_some());
        let answer = next.request(request).await?;
        let tasks = (0..=more).map(|_| events.spawn(|_| std::future::pending()));
        scope.insert(Pile(tasks.collect()));
        Ok(answer)
    }
}

#[tokio::test(start_paused = true)]
async fn what_grows_with_every_refresh_is_caught() {
    let broken = laws::check(|| Hoarder).await.unwrap_err();
    assert_eq!(broken.law, "refresh replaces, it does not add");
}
