// SPDX-License-Identifier: Apache-2.0

//! The interface to a prober of links.

use std::any::Any;

use futures::{
    FutureExt, StreamExt,
    stream::{BoxStream, Fuse},
};

use crate::api::Connection;

/// Whether traffic passes over the link of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The link is not probed, or not yet.
    #[default]
    Unknown,
    /// The far end answers.
    Alive,
    /// The link is gone, or its far end does not answer.
    Dead,
}

/// Reports whether traffic passes over the link of a connection, and moves traffic away from a
/// doubtful one.
pub trait Liveness: Send + Sync + 'static {
    /// The verdict on the link of an answered connection: the present one, and every later one.
    /// After the end of the stream the last one stays.
    fn watch(&self, answer: &Connection) -> BoxStream<'static, Verdict>;

    /// Prefers other links to that of an answered connection until the guard is dropped, because a
    /// peer reports that the connection is down. If there are no others, traffic continues over
    /// this one.
    fn doubt(&self, answer: &Connection) -> Doubt;
}

/// Keeps a link in doubt.
pub type Doubt = Box<dyn Any + Send + Sync>;

/// The link of a connection, with the last verdict on it.
pub(super) struct Link {
    verdicts: Fuse<BoxStream<'static, Verdict>>,
    last: Verdict,
}

impl Link {
    pub(super) fn new(verdicts: BoxStream<'static, Verdict>) -> Self {
        Self { verdicts: verdicts.fuse(), last: Verdict::Unknown }
    }

    /// The present verdict.
    pub(super) fn verdict(&mut self) -> Verdict {
        while let Some(Some(verdict)) = self.verdicts.next().now_or_never() {
            self.last = verdict;
        }
        self.last
    }

    /// Waits until a condition holds for the verdict. Cancel-safe.
    pub(super) async fn until(&mut self, holds: impl Fn(Verdict) -> bool) {
        while !holds(self.verdict()) {
            match self.verdicts.next().await {
                Some(verdict) => self.last = verdict,
                None => std::future::pending().await,
            }
        }
    }
}
