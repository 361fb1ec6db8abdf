// SPDX-License-Identifier: Apache-2.0

//! Test rig: a row, or a chain, above a service that can be made to fail.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use futures::future::poll_fn;
use tokio::{runtime::Handle, time::sleep};

use super::{Broken, POLLS, broken, held::Held, inner::Inner};
use crate::{
    api::{Connection, PathSegment},
    chain::{
        Call, Close, Error, Events, Frame, InvalidChain, Next, Request, Result, begin::mailbox::Mailbox,
    },
    task::Tasks,
};

/// Turns of the runtime after which ended resources are gone, also a connection whose two ends are
/// in this thread.
const TURNS: u64 = 8;
/// How long the inner service takes: longer than the rig waits, so that work which outlives its
/// call is detected.
pub(super) const ANSWER: Duration = Duration::from_millis(TURNS + 2);

#[derive(Clone, Copy, PartialEq)]
pub(super) enum What {
    Request,
    Close,
}

/// The test rig; see the module documentation.
pub(super) struct Rig<'a> {
    chain: Next,
    pub(super) inner: Arc<Inner>,
    owner: Owner,
    witness: &'a dyn Fn() -> usize,
}

/// The owner of the connection.
pub(super) enum Owner {
    /// The rig, with a scope and events but without a lane.
    Rig(Frame, Arc<Mailbox>),
    /// A lane of the chain.
    Lane(Tasks),
}

impl Owner {
    pub(super) fn rig() -> Self {
        Self::Rig(Frame::bottom(), Mailbox::new(Tasks::default()))
    }

    /// Prepares a call as a lane and `metadata` do.
    fn prepare(&self, call: &mut Call) -> Option<Frame> {
        let Self::Rig(bottom, mailbox) = self else { return None };
        let frame = bottom.scope().frame();
        let (context, scope) = match call {
            Call::Request(request) => (&mut request.context, frame.scope()),
            Call::Close(close) => (&mut close.context, bottom.scope()),
        };
        (context.scope, context.events) = (scope, Events::of(mailbox));
        Some(frame)
    }
}

impl<'a> Rig<'a> {
    /// Puts the inner service, as wrapped by `wrap`, into a rig.
    pub(super) async fn new(
        wrap: impl FnOnce(Next) -> Result<Next, InvalidChain>,
        owner: Owner,
        witness: &'a dyn Fn() -> usize,
    ) -> Result<Self, Broken> {
        settle().await; // the previous law may have left aborted tasks
        let inner = Arc::new(Inner::default());
        match wrap(Next::of("end", inner.service())) {
            Ok(chain) => Ok(Self { chain, inner, owner, witness }),
            Err(wrong) => broken("order", wrong.to_string()),
        }
    }

    /// Runs a call as a lane would; `None` if it was cancelled after `polls` polls.
    pub(super) async fn call(&self, what: What, polls: usize) -> Option<Result<Box<Connection>>> {
        let mut connection = Connection::named("a");
        connection.path_mut().path_segments = vec![PathSegment { id: "a".into(), ..PathSegment::default() }];
        let mut call = match what {
            What::Request => Call::Request(Request::new(connection)),
            What::Close => Call::Close(Close::new(connection)),
        };
        let frame = self.owner.prepare(&mut call);
        let answer = match call {
            Call::Request(request) => poll_times(self.chain.request(request), polls).await,
            Call::Close(close) => poll_times(self.chain.close(close), polls).await,
        };
        match (&answer, frame) {
            (Some(Ok(_)), Some(frame)) => frame.commit(),
            (_, frame) => drop(frame),
        }
        if self.has_lane() {
            sleep(ANSWER).await; // the lane finishes the cancelled call
        }
        settle().await;
        answer
    }

    pub(super) async fn good(&self, law: &'static str, what: What) -> Result<(), Broken> {
        self.expect(law, what, true).await
    }

    pub(super) async fn bad(&self, law: &'static str, what: What) -> Result<(), Broken> {
        self.expect(law, what, false).await
    }

    async fn expect(&self, law: &'static str, what: What, good: bool) -> Result<(), Broken> {
        self.inner.fails.store(!good, SeqCst);
        let answer: Option<Result<_, Error>> = self.call(what, POLLS).await;
        self.inner.fails.store(false, SeqCst);
        match answer {
            Some(Ok(_)) if good => Ok(()),
            Some(Err(_)) if !good => Ok(()),
            Some(Err(error)) => broken(law, format!("failed by itself: {error}")),
            Some(Ok(_)) => broken(law, "hides a failure".into()),
            None => broken(law, format!("is not done after {POLLS} polls")),
        }
    }

    /// Ends the connection: drops the scope, as a lane does at its end; a lane of the chain needs a
    /// Close for that.
    pub(super) async fn end(&mut self, law: &'static str) -> Result<(), Broken> {
        match &mut self.owner {
            Owner::Rig(bottom, _) => *bottom = Frame::bottom(),
            Owner::Lane(_) => self.good(law, What::Close).await?,
        }
        settle().await;
        Ok(())
    }

    /// Ends all connections without a Close.
    pub(super) async fn stop(&mut self) {
        match &mut self.owner {
            Owner::Rig(bottom, _) => *bottom = Frame::bottom(),
            Owner::Lane(tasks) => tasks.stop().await,
        }
        settle().await;
    }

    /// Whether a cancelled call may still be done.
    pub(super) fn has_lane(&self) -> bool {
        matches!(self.owner, Owner::Lane(_))
    }

    pub(super) fn held(&self) -> Held {
        Held {
            scope: match &self.owner {
                Owner::Rig(bottom, _) => bottom.scope().contents(),
                Owner::Lane(_) => Vec::new(),
            },
            inner: self.inner.numbers(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            witness: (self.witness)(),
        }
    }
}

/// Polls up to `polls` times, a turn apart, then drops the future.
async fn poll_times<F: Future>(work: F, polls: usize) -> Option<F::Output> {
    let mut work = pin!(work);
    for _ in 0..polls {
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Some(done);
        }
        turn().await;
    }
    None
}

/// Lets the runtime run every task that can run, and poll its sockets once. Paused time advances by
/// a millisecond.
async fn turn() {
    sleep(Duration::from_millis(1)).await;
}

/// Lets started and ended tasks come to rest.
async fn settle() {
    for _ in 0..TURNS {
        turn().await;
    }
}
