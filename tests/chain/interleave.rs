// SPDX-License-Identifier: Apache-2.0

//! Tests any sequence of calls and events: one call at a time per id, a Close uses the last good
//! connection, nothing survives.

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
        Call, Chain, Element, Error, EventKind, Next, Reason, Request, Result, begin::BeginLayer,
        metadata::MetadataLayer,
    },
    task::Tasks,
};
use proptest::prelude::*;
use tokio::{runtime::Builder, task::JoinSet};
use tower::Service;
use tower_layer::Layer;

use crate::{
    samples::Refresh,
    world::{Lever, World, close, ms, request},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Request { timeout: u64 },
    Leave { after: u64 },
    Close,
    Refresh,
    Reselect,
    Timeout,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (50u64..3000).prop_map(|timeout| Step::Request { timeout }),
        (0u64..500).prop_map(|after| Step::Leave { after }),
        Just(Step::Close),
        Just(Step::Refresh),
        Just(Step::Reselect),
        Just(Step::Timeout),
    ]
}

/// Counts its guards.
#[derive(Clone, Default)]
struct Ports(Arc<AtomicUsize>);
struct Port(Arc<AtomicUsize>);
impl Drop for Port {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
impl Element for Ports {
    const NAME: &'static str = "ports";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        self.0.fetch_add(1, SeqCst);
        request.context.scope.insert(Port(self.0.clone()));
        next.request(request).await
    }
}

/// An event may end without an effect.
fn drop_ended(answer: Result<Box<Connection>>) -> Option<Error> {
    answer.err().filter(|error| !matches!(error.reason(), Reason::Ended))
}

async fn play(
    endpoint: bool,
    steps: Vec<(usize, u64, Step)>,
    script: Vec<(u64, bool)>,
) -> Result<(), TestCaseError> {
    let world = World::default();
    let lever = Lever::default();
    let ports = Ports::default();
    let tasks = Tasks::default();
    world.script(script);
    let rest = Chain::new()
        .with(Refresh(Duration::from_secs(2)))
        .with(lever.clone())
        .with(ports.clone())
        .end(world.service())
        .build()?;
    let layer = if endpoint { BeginLayer::endpoint } else { BeginLayer::client };
    let begin = layer(tasks.clone()).layer(MetadataLayer.layer(rest));
    let ids = ["a", "b", "c"];
    let mut callers = JoinSet::new();
    for (id, gap, step) in steps {
        let (id, mut begin, events) = (ids[id], begin.clone(), lever.of(ids[id]));
        callers.spawn(async move {
            let asked = request(id, 5000);
            match step {
                Step::Request { timeout } => begin.call(Call::Request(request(id, timeout))).await.err(),
                Step::Close => begin.call(Call::Close(close(id))).await.err(),
                Step::Leave { after } => {
                    let left = Duration::from_millis(after);
                    drop(tokio::time::timeout(left, begin.call(Call::Request(asked))).await);
                    None
                }
                Step::Refresh => drop_ended(events.request(EventKind::Heal).await),
                Step::Reselect => drop_ended(events.reselect(EventKind::Heal, true).await),
                Step::Timeout => drop_ended(events.close(EventKind::Timeout).await),
            }
        });
        ms(gap).await;
    }
    for error in callers.join_all().await.into_iter().flatten() {
        let ended = matches!(error.reason(), Reason::Ended | Reason::Panicked(_));
        prop_assert!(!ended, "a caller is served or told why not: {}", error);
    }
    world.script([]);
    ms(60_000).await;
    prop_assert!(ports.0.load(SeqCst) == begin.lanes());
    for id in ids {
        begin.clone().call(Call::Close(close(id))).await?;
    }
    ms(1).await;
    prop_assert_eq!(world.wrong(), Vec::<String>::new());
    prop_assert_eq!((begin.lanes(), tasks.len(), world.good(), ports.0.load(SeqCst)), (0, 0, 0, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_survives_any_interleaving(
        endpoint: bool,
        steps in prop::collection::vec((0usize..3, 0u64..600, step()), 1..40),
        script in prop::collection::vec((0u64..700, prop::bool::weighted(0.3)), 0..60),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(play(endpoint, steps, script))?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_survives_a_race_of_two_threads() {
    let world = World::default();
    let lever = Lever::default();
    let tasks = Tasks::default();
    let rest = Chain::new().with(lever.clone()).end(world.service()).build().unwrap();
    let begin = BeginLayer::endpoint(tasks.clone()).layer(rest);
    let mut callers = JoinSet::new();
    for caller in 0..8usize {
        let mut begin = begin.clone();
        let lever = lever.clone();
        callers.spawn(async move {
            for turn in 0..500 {
                let id = ["a", "b", "c"][(caller + turn) % 3];
                match (caller * 7 + turn * 3) % 5 {
                    0 | 1 => drop(begin.call(Call::Request(request(id, 5000))).await),
                    2 | 3 => drop(begin.call(Call::Close(close(id))).await),
                    _ => drop(lever.of(id).request(EventKind::Heal).await),
                }
            }
        });
    }
    callers.join_all().await;
    for id in ["a", "b", "c"] {
        begin.clone().call(Call::Close(close(id))).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(5), async {
        while !tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(world.wrong(), Vec::<String>::new());
    assert_eq!((begin.lanes(), world.good()), (0, 0));
}
