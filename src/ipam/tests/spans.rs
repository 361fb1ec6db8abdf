// SPDX-License-Identifier: Apache-2.0

//! Tests the place of a lease's calls in a trace.

use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use tracing::{Instrument, Span, span::Id};

use super::*;

/// Records the span in which each call is made.
#[derive(Clone)]
struct Noting {
    allocator: InMemory,
    spans: Arc<Mutex<Vec<Option<Id>>>>,
}

impl Noting {
    fn note(&self) {
        self.spans.lock().unwrap().push(Span::current().id());
    }
}

impl Allocator for Noting {
    async fn allocate(&self, child: &str, family: Family) -> Result<IpNet, AllocateError> {
        self.note();
        self.allocator.allocate(child, family).await
    }

    async fn release(&self, child: &str, family: Family) -> Result<(), AllocateError> {
        self.note();
        self.allocator.release(child, family).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_a_child_of_the_caller_that_waits_for_it() {
    let _on = tracing::subscriber::set_default(tracing_subscriber::registry());
    let tasks = Tasks::default();
    let spans = Arc::<Mutex<Vec<_>>>::default();
    let allocator = Noting { allocator: InMemory::new(tree(), subnet()), spans: Arc::clone(&spans) };
    let leases = Leases::start(allocator, Settings::default(), &tasks);
    let acquire = |span: &Span| {
        let leases = leases.clone();
        let span = span.clone();
        async move { leases.acquire("a", Instant::now() + 15 * SECOND).await }.instrument(span)
    };
    let first = tracing::info_span!("first");
    let second = tracing::info_span!("second");
    let (one, other) = tokio::join!(acquire(&first), acquire(&second));
    assert_eq!(*spans.lock().unwrap(), [first.id(), first.id()], "one call of each family for both");
    spans.lock().unwrap().clear();
    drop((one.unwrap(), other.unwrap()));
    sleep(30 * SECOND).await;
    assert_eq!(*spans.lock().unwrap(), [None, None], "nobody waits for a release");
    tasks.stop().await;
}
