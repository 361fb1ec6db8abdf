// SPDX-License-Identifier: Apache-2.0

//! An element of your own: refuses connections beyond a number, and frees the place when a
//! connection is gone.
//!
//! Its state is a guard in the scope, so that it is right also after a failure, a cancellation or a
//! panic; the laws check this.

use std::sync::Arc;

use nsm::{
    api::Connection,
    chain::{
        Chain, Close, Element, Next, Order, Reason, Request, Result, begin::BeginLayer, laws,
        metadata::MetadataLayer,
    },
    task::Tasks,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Admits a limited number of connections at a time.
struct AtMost(Arc<Semaphore>);

/// A connection's place, given back on drop.
struct Place(#[expect(dead_code, reason = "a guard")] OwnedSemaphorePermit);

impl Element for AtMost {
    const NAME: &'static str = "at_most";
    const ORDER: Order = Order::STATE;

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = &request.context.scope;
        if scope.get::<Place>().is_none() {
            let place = Arc::clone(&self.0).try_acquire_owned();
            scope.insert(Place(
                place.map_err(|_| Reason::Exhausted("no place for another connection".into()))?,
            ));
        }
        next.request(request).await
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)] // paused for the laws
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let places = Arc::new(Semaphore::new(2));
    let tasks = Tasks::default();
    let chain = Chain::new()
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(MetadataLayer)
        .with(AtMost(Arc::clone(&places)));
    println!("{chain}");
    let chain = chain.build()?;

    for id in ["a", "b", "a"] {
        chain.request(Request::new(Connection::named(id))).await?; // the second time is a refresh
    }
    let refused = chain.request(Request::new(Connection::named("c"))).await;
    let refused = refused.err().ok_or("the third connection was admitted")?;
    println!("{refused}");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);

    chain.close(Close::new(Connection::named("a"))).await?;
    chain.request(Request::new(Connection::named("c"))).await?;
    tasks.stop().await;
    assert_eq!(places.available_permits(), 2, "nothing is left");

    laws::check_with(|| AtMost(Arc::clone(&places)), || 2 - places.available_permits()).await?;
    Ok(())
}
