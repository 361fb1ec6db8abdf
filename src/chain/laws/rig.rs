// SPDX-License-Identifier: Apache-2.0

//! Test rig: one element above a service that can be made to fail, with a scope and events but without a lane.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use futures::future::poll_fn;
use tokio::{runtime::Handle, time::sleep};
use tower_layer::Layer;

use super::{Broken, POLLS};
use crate::{
    api::Connection,
    chain::{
        Call, Close, Element, Error, Events, Frame, Next, Reason, Request, Result, Tasks, mailbox::Mailbox,
    },
};

pub(super) fn broken<T>(law: &'static str, what: String) -> Result<T, Broken> {
    Err(Broken { law, what })
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum What {
    Request,
    Close,
}

#[derive(Debug, PartialEq)]
pub(super) struct Held {
    pub(super) scope: Vec<(&'static str, usize)>,
    pub(super) tasks: usize,
    pub(super) witness: usize,
}

/// The test rig; see the module documentation.
pub(super) struct Rig<'a> {
    chain: Next,
    pub(super) inner: Arc<Inner>,
    bottom: Frame,
    mailbox: Arc<Mailbox>,
    witness: &'a dyn Fn() -> usize,
}

#[derive(Default)]
pub(super) struct Inner {
    fails: AtomicBool,
    pub(super) requests: AtomicUsize,
    pub(super) closes: AtomicUsize,
}

impl Inner {
    async fn answer(&self, call: Call) -> Result<Box<Connection>> {
        match call {
            Call::Request(_) => self.requests.fetch_add(1, SeqCst),
            Call::Close(_) => self.closes.fetch_add(1, SeqCst),
        };
        sleep(Duration::from_millis(2)).await;
        if self.fails.load(SeqCst) {
            return Err(Reason::Refused("the law wants a failure".into()).into());
        }
        Ok(call.into_connection())
    }
}

impl<'a> Rig<'a> {
    pub(super) async fn around<E: Element>(element: E, witness: &'a dyn Fn() -> usize) -> Self {
        settle().await; // the law before may have left aborted tasks
        let inner = Arc::new(Inner::default());
        let end = Arc::clone(&inner);
        let end = tower::service_fn(move |call| {
            let end = Arc::clone(&end);
            async move { end.answer(call).await }
        });
        Self {
            chain: element.layer().layer(end),
            inner,
            bottom: Frame::bottom(),
            mailbox: Mailbox::new(Tasks::default()),
            witness,
        }
    }

    /// Run a call as a lane would; `None` if it was cancelled after `polls` polls.
    pub(super) async fn call(&self, what: What, polls: usize) -> Option<Result<Box<Connection>>> {
        let mut connection = Connection::named("a");
        connection.path_mut().path_segments = vec![Default::default()];
        let frame = self.bottom.scope().frame();
        let events = Events::of(&self.mailbox);
        let answer = match what {
            What::Request => {
                let mut request = Request::new(connection);
                (request.context.scope, request.context.events) = (frame.scope(), events);
                poll_times(self.chain.request(request), polls).await
            }
            What::Close => {
                let mut close = Close::new(connection);
                (close.context.scope, close.context.events) = (self.bottom.scope(), events);
                poll_times(self.chain.close(close), polls).await
            }
        };
        match &answer {
            Some(Ok(_)) => frame.commit(),
            _ => drop(frame),
        }
        settle().await;
        answer
    }

    pub(super) async fn good(&mut self, law: &'static str, what: What) -> Result<(), Broken> {
        self.expect(law, what, true).await
    }

    pub(super) async fn bad(&mut self, law: &'static str, what: What) -> Result<(), Broken> {
        self.expect(law, what, false).await
    }

    async fn expect(&mut self, law: &'static str, what: What, good: bool) -> Result<(), Broken> {
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

    /// Drop the scope, as a lane does at its end.
    pub(super) async fn end(&mut self) {
        self.bottom = Frame::bottom();
        settle().await;
    }

    pub(super) fn held(&self) -> Held {
        Held {
            scope: self.bottom.scope().contents(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            witness: (self.witness)(),
        }
    }

    pub(super) fn same(&self, law: &'static str, before: &Held) -> Result<(), Broken> {
        match self.held() {
            now if now == *before => Ok(()),
            now => broken(law, format!("{before:?} became {now:?}")),
        }
    }
}

/// Poll up to `polls` times, one millisecond apart, then drop the future.
async fn poll_times<F: Future>(work: F, polls: usize) -> Option<F::Output> {
    let mut work = pin!(work);
    for _ in 0..polls {
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Some(done);
        }
        settle().await;
    }
    None
}

/// Yield until aborted tasks have ended.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
