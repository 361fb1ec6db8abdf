// SPDX-License-Identifier: Apache-2.0

//! Tests the promises of `begin` about a Close that is owed, fails, or is denied, one sentence
//! each.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use nsm::{
    api::Connection,
    chain::{
        Answered, Call, Chain, Close, Element, EventKind, Next, Reason, Request, Result,
        begin::{Begin, BeginLayer},
        metadata::MetadataLayer,
    },
    task::Tasks,
};
use tower::Service;
use tower_layer::Layer;

use crate::world::{Lever, World, close, ms, request};

/// Handles responses and Closes as scripted; counts the Closes.
#[derive(Clone, Default)]
struct Picky(Arc<Mutex<&'static str>>, Arc<AtomicUsize>);
struct Kept;

impl Element for Picky {
    const NAME: &'static str = "picky";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        request.context.scope.insert(Kept);
        let answer = next.request(request).await?;
        let told = *self.0.lock().unwrap();
        match told {
            "refuse" => Err(Reason::Refused("not this one".into()).into()),
            "wait" => std::future::pending().await,
            "panic" => panic!("at the answer"),
            _ => Ok(answer),
        }
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        assert!(close.context.scope.get::<Kept>().is_some(), "a Close has what its Request kept");
        let told = *self.0.lock().unwrap();
        let closes = self.1.fetch_add(1, SeqCst);
        match told {
            "deny" if closes < 100 => Err(Reason::Denied("not you".into()).into()),
            _ => next.close(close).await,
        }
    }
}

/// The elements below it count as another process.
struct Hop;
impl Element for Hop {
    const NAME: &'static str = "hop";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let answer = next.request(request).await?;
        scope.insert(Answered::with((*answer).clone()));
        Ok(answer)
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        drop(close.context.scope.take::<Answered>());
        next.close(close).await
    }
}

#[derive(Clone)]
struct Rig {
    world: World,
    lever: Lever,
    picky: Picky,
    tasks: Tasks,
    begin: Begin,
}

fn rig(make: fn(Tasks) -> BeginLayer) -> Rig {
    let world = World::default();
    let lever = Lever::default();
    let picky = Picky::default();
    let tasks = Tasks::default();
    let rows = Chain::new().with(lever.clone()).with(picky.clone()).with(Hop);
    let begin = make(tasks.clone()).layer(MetadataLayer.layer(rows.end(world.service()).build().unwrap()));
    Rig { world, lever, picky, tasks, begin }
}

impl Rig {
    fn tell(&self, what: &'static str) {
        *self.picky.0.lock().unwrap() = what;
    }

    async fn request(&mut self) -> Result<Box<Connection>> {
        self.begin.call(Call::Request(request("a", 1000))).await
    }

    async fn close(&mut self) -> Result<Box<Connection>> {
        self.begin.call(Call::Close(close("a"))).await
    }

    fn empty(&self) {
        assert_eq!((self.begin.lanes(), self.tasks.len(), self.world.good()), (0, 0, 0));
        assert_eq!(self.world.wrong(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_whose_first_answer_is_not_taken_is_closed() {
    for make in [BeginLayer::client, BeginLayer::endpoint] {
        for told in ["refuse", "wait", "panic"] {
            let mut rig = rig(make);
            rig.tell(told);
            rig.request().await.unwrap_err();
            ms(50).await;
            assert_eq!(rig.world.seen(), ["request a", "close a"], "{told}");
            rig.empty();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_first_answer_is_closed_until_that_works() {
    let mut rig = rig(BeginLayer::client);
    rig.tell("refuse");
    rig.world.script([(0, false), (0, true), (0, true)]);
    rig.request().await.unwrap_err();
    ms(5000).await;
    assert_eq!(rig.world.seen(), ["request a", "close a", "close a", "close a"]);
    rig.empty();
}

#[tokio::test(start_paused = true)]
async fn a_refused_later_answer_leaves_the_next_hop_unchanged() {
    let mut rig = rig(BeginLayer::client);
    rig.request().await.unwrap();
    for told in ["refuse", "wait", "panic"] {
        rig.tell(told);
        rig.request().await.unwrap_err();
    }
    ms(5000).await;
    assert_eq!(rig.world.seen(), ["request a"; 4]);
    rig.world.script([]);
    rig.tell("");
    rig.request().await.unwrap();
    rig.close().await.unwrap();
    ms(1).await;
    rig.empty();
}

#[tokio::test(start_paused = true)]
async fn a_refused_answer_to_a_reselect_keeps_the_connection() {
    let mut rig = rig(BeginLayer::client);
    rig.request().await.unwrap();
    for told in ["refuse", "wait", "panic"] {
        rig.world.seen();
        rig.tell(told);
        rig.lever.of("a").reselect(EventKind::Heal, true).await.unwrap_err();
        assert_eq!(rig.world.seen(), ["close a", "request a", "close a"], "{told}");
        assert_eq!((rig.begin.lanes(), rig.world.good()), (1, 0));
    }
    rig.tell("");
    rig.lever.of("a").reselect(EventKind::Heal, true).await.unwrap();
    rig.close().await.unwrap();
    ms(1).await;
    assert_eq!((rig.begin.lanes(), rig.world.good()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_denied_close_of_an_event_is_retried_with_backoff() {
    let mut rig = rig(BeginLayer::endpoint);
    rig.request().await.unwrap();
    rig.tell("deny");
    rig.lever.of("a").close(EventKind::Timeout).await.unwrap_err();
    ms(30_000).await;
    let tries = rig.picky.1.load(SeqCst);
    assert!((5..20).contains(&tries), "{tries} tries in 30 s");
    rig.tell("");
    ms(10_000).await;
    rig.empty();
}

#[tokio::test(start_paused = true)]
async fn a_denied_caller_neither_starts_nor_hurries_a_close() {
    let mut rig = rig(BeginLayer::endpoint);
    rig.request().await.unwrap();
    rig.tell("deny");
    rig.close().await.unwrap_err();
    ms(30_000).await;
    assert_eq!(rig.picky.1.load(SeqCst), 1, "it is not done later");
    rig.tell("");
    rig.world.script([(0, true)]);
    rig.close().await.unwrap_err();
    rig.tell("deny");
    rig.close().await.unwrap_err();
    ms(30_000).await;
    let tries = rig.picky.1.load(SeqCst);
    assert!((8..25).contains(&tries), "{tries} tries in 30 s");
    rig.tell("");
    ms(10_000).await;
    rig.empty();
}

#[tokio::test(start_paused = true)]
async fn a_refused_first_answer_of_a_nested_begin_is_closed() {
    let world = World::default();
    let picky = Picky::default();
    let tasks = Tasks::default();
    let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer).with(picky.clone());
    let client = Chain::new().with(BeginLayer::client(tasks.clone())).end(world.service());
    let chain = rows.end(client.build().unwrap()).build().unwrap();
    *picky.0.lock().unwrap() = "refuse";
    chain.request(request("a", 1000)).await.unwrap_err();
    ms(50).await;
    assert_eq!(world.seen(), ["request a", "close a"]);
    assert_eq!((tasks.len(), world.good()), (0, 0));
    *picky.0.lock().unwrap() = "";
    chain.request(request("a", 1000)).await.unwrap();
    *picky.0.lock().unwrap() = "refuse";
    chain.request(request("a", 1000)).await.unwrap_err();
    assert_eq!((tasks.len(), world.good()), (2, 1), "a later one leaves it as it is");
    chain.close(close("a")).await.unwrap();
    ms(50).await;
    assert_eq!((tasks.len(), world.good()), (0, 0));
}
