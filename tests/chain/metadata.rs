// SPDX-License-Identifier: Apache-2.0

//! Tests the promise of metadata: a Request's state is kept only if the Request succeeds.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use nsm::{
    api::Connection,
    chain::{
        Call, CallService, Chain, Element, Next, Request, Result, begin::BeginLayer, metadata::MetadataLayer,
    },
    task::Tasks,
};
use tower::{Service, layer::util::Identity};
use tower_layer::Layer;

use crate::world::{World, request};

/// Stores how many Requests it has received, and records the value that it found stored.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>, Arc<AtomicUsize>);
struct Stored(usize);
impl Element for Count {
    const NAME: &'static str = "count";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = &request.context.scope;
        self.1.store(scope.get::<Stored>().map_or(0, |stored| stored.0), SeqCst);
        scope.insert(Stored(self.0.fetch_add(1, SeqCst) + 1));
        next.request(request).await
    }
}

async fn found_after_a_failed_refresh(metadata: impl Layer<Next, Service: CallService>) -> usize {
    let world = World::default();
    let tasks = Tasks::default();
    let count = Count::default();
    let rest = metadata.layer(Chain::new().with(count.clone()).end(world.service()).build().unwrap());
    let mut begin = BeginLayer::client(tasks.clone()).layer(rest);
    world.script([(0, false), (0, true)]);
    assert!(begin.call(Call::Request(request("a", 1000))).await.is_ok());
    assert!(begin.call(Call::Request(request("a", 1000))).await.is_err());
    assert!(begin.call(Call::Request(request("a", 1000))).await.is_ok());
    tasks.stop().await;
    count.1.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_leaves_what_the_last_good_one_stored() {
    assert_eq!(found_after_a_failed_refresh(MetadataLayer).await, 1);
}

#[tokio::test(start_paused = true)]
async fn without_metadata_a_failed_refresh_overwrites_it() {
    assert_eq!(found_after_a_failed_refresh(Identity::new()).await, 2);
}
