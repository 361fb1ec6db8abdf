// SPDX-License-Identifier: Apache-2.0

//! Tests that the laws hold for small elements, for the machine and for hand-written services, and
//! that they detect violations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use nsm::{
    api::Connection,
    chain::{
        Call, Chain, Element, Error, Next, Request, ResponseFuture, Result, begin::BeginLayer, laws,
        metadata::MetadataLayer,
    },
};
use tower::{Service, layer::layer_fn};

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

/// Counts ports and gives them back without a guard.
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
    let broken = laws::check_with(|| ByHand(Arc::clone(&ports)), || ports.load(SeqCst)).await;
    assert_eq!(broken.unwrap_err().law, "cut of a first Request");
}

/// Puts its guard into the scope, but adds one with every refresh.
struct Hoarder;
struct Pile(#[expect(dead_code, reason = "a guard")] Vec<nsm::task::Task>);
impl Element for Hoarder {
    const NAME: &'static str = "hoarder";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
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

#[tokio::test(start_paused = true)]
async fn begin_and_metadata_keep_the_laws() {
    for begin in [BeginLayer::client, BeginLayer::endpoint] {
        let chain = |begin| Chain::new().with(begin).with(MetadataLayer);
        laws::check_chain(|tasks| chain(begin(tasks.clone())), || 0).await.unwrap();
    }
    laws::check_layer(|| MetadataLayer, || 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_chain_without_metadata_is_caught() {
    let chain = |begin| Chain::new().with(begin);
    let broken = laws::check_chain(|tasks| chain(BeginLayer::client(tasks.clone())), || 0).await;
    assert_eq!(broken.unwrap_err().law, "failure of a refresh");
}

#[tokio::test(start_paused = true)]
async fn a_chain_in_a_wrong_order_is_told() {
    let chain = || Chain::new().with(Refresh(Duration::from_secs(60)));
    let broken = laws::check_chain(|t| chain().with(BeginLayer::client(t.clone())), || 0).await;
    let broken = broken.unwrap_err();
    assert_eq!((broken.law, broken.what.contains("`begin` must stand before")), ("order", true), "{broken}");
}

/// Runs some calls in a task, which continues when its call is cancelled.
#[derive(Clone)]
struct InTask(Next, Which);
type Which = fn(&Call) -> bool;
impl Service<Call> for InTask {
    type Response = Box<Connection>;
    type Error = Error;
    type Future = ResponseFuture;
    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn call(&mut self, call: Call) -> ResponseFuture {
        match (self.1)(&call) {
            true => {
                let task = tokio::spawn(self.0.call(call));
                Box::pin(async { task.await.unwrap() })
            }
            false => self.0.call(call),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_written_service_is_held_to_the_laws_too() {
    let which: [(Which, _); 3] = [
        (|_| false, None),
        (|call| matches!(call, Call::Request(_)), Some("cut of a first Request")),
        (|call| matches!(call, Call::Close(_)), Some("cut of a Close")),
    ];
    for (in_task, expected) in which {
        let checked = laws::check_layer(|| layer_fn(|next| InTask(next, in_task)), || 0).await;
        assert_eq!(checked.err().map(|broken| broken.law), expected);
    }
}
