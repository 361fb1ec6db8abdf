// SPDX-License-Identifier: Apache-2.0

//! The bookkeeping of one lease beside its state: waiting callers, renewal interval, pauses after
//! failures.

use std::{mem, sync::Arc, time::Duration};

use ipnet::IpNet;
use rand::Rng;
use tokio::{sync::oneshot, time::Instant};
use tracing::Span;

use super::{
    Lease, LeaseError,
    lease::Slot,
    restored::Record,
    state::{Answers, State},
    tag::Tag,
};
use crate::{
    api::Dual,
    chain::Owner,
    task::{Backoff, jittered},
};

/// Wait before a failed call is repeated: the first time, at most, and during a flush.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
const RETRY_IN_FLUSH: Duration = Duration::from_millis(200);

/// A caller that waits for a lease.
pub(super) struct Waiter {
    pub(super) slot: Slot,
    pub(super) reply: oneshot::Sender<Result<Lease, LeaseError>>,
    /// The span of the caller.
    pub(super) span: Span,
}

impl Waiter {
    pub(super) fn refuse(self, error: LeaseError) {
        let _left = self.reply.send(Err(error));
    }

    /// Hands the lease to the caller. If the caller has left, the lease is dropped here, and counts
    /// as one whose holder has gone.
    fn grant(self, child: &Arc<str>, addresses: Dual<IpNet>) {
        let _left = self.reply.send(Ok(Lease::new(Arc::clone(child), addresses, self.slot)));
    }
}

pub(super) struct Entry {
    child: Arc<str>,
    /// Its owner; `None` is the proxy itself.
    pub(super) tag: Option<Tag>,
    /// The owner by name, unless the lease is that of an earlier process.
    pub(super) owner: Option<Owner>,
    pub(super) state: State,
    /// When the task checks it next.
    pub(super) scheduled: Option<Instant>,
    waiting: Vec<Waiter>,
    renew: Duration,
    pauses: Backoff,
}

impl Entry {
    pub(super) fn new(child: Arc<str>, owner: Option<Owner>, renew: Duration) -> Self {
        Self {
            child,
            tag: owner.as_ref().map(Tag::of),
            owner,
            state: State::FREE,
            scheduled: None,
            waiting: Vec::new(),
            renew,
            pauses: Backoff::new(RETRY, RETRY_MAX),
        }
    }

    /// A lease that an earlier process held.
    pub(super) fn restored(record: Record, renew: Duration) -> Self {
        let state = State::restored(record.addresses, Instant::now());
        Self { state, tag: record.owner, ..Self::new(record.child, None, renew) }
    }

    /// Renews at least this often.
    pub(super) fn renew_every(&mut self, every: Duration) {
        if every < self.renew {
            self.renew = every;
            self.state.renew_by(Instant::now() + jittered(every));
        }
    }

    pub(super) fn acquire(&mut self, waiting: Waiter) {
        if let Some(addresses) = self.state.moved() {
            tracing::warn!(child = %self.child, ?addresses, "hands out the addresses that a renewal answered");
        }
        match self.state.acquire() {
            Some(addresses) => waiting.grant(&self.child, addresses),
            None => {
                self.forget_those_who_left();
                if let Some(first) = self.waiting.first() {
                    waiting.span.follows_from(&first.span);
                }
                self.waiting.push(waiting);
            }
        }
    }

    /// The span of the first waiting caller: parent of the call that is made for all of them.
    pub(super) fn span(&self) -> Span {
        self.waiting.first().map_or_else(Span::none, |waiting| waiting.span.clone())
    }

    /// Handles the end of an Allocate: all callers get the addresses, or the first error.
    pub(super) fn allocated(&mut self, answers: &Answers, release_at: Instant, rpc_timeout: Duration) {
        self.forget_those_who_left();
        let waiting = mem::take(&mut self.waiting);
        let doubtful = self.state.doubtful;
        match self.state.allocated(answers, waiting.len(), release_at) {
            Ok(addresses) => waiting.into_iter().for_each(|caller| caller.grant(&self.child, addresses)),
            Err((family, source)) => {
                let error = LeaseError::Allocate { child: self.child.to_string(), family, source };
                waiting.into_iter().for_each(|caller| caller.refuse(error.clone()));
            }
        }
        self.pauses.reset();
        let next = if doubtful { rpc_timeout.min(self.renew) } else { self.renew };
        self.state.renew_at(Instant::now() + jittered(next));
    }

    /// Renews within this time.
    pub(super) fn renew_soon(&mut self, within: Duration) {
        self.state.renew_by(Instant::now() + within.mul_f64(rand::rng().random()));
    }

    /// Handles the end of a Renew. True: it returned other addresses than before.
    pub(super) fn renewed(&mut self, answers: &Answers) -> bool {
        let moved = self.state.renewed(answers);
        if moved {
            tracing::error!(
                child = %self.child, answers = ?self.state.moved(), in_use = ?self.state.addresses(),
                "a renewal answered other addresses than those in use, which stay until the lease is acquired anew"
            );
        }
        let next = match answers.iter().all(|(_, answer)| answer.is_ok()) {
            true => {
                self.pauses.reset();
                jittered(self.renew)
            }
            false => self.pauses.delay().min(self.renew),
        };
        self.state.renew_at(Instant::now() + next);
        moved
    }

    /// Handles the end of a Release.
    pub(super) fn released(&mut self, ok: bool, flushing: bool) {
        self.forget_those_who_left();
        let retry = match (ok, flushing) {
            (true, _) => Duration::ZERO,
            (false, true) => RETRY_IN_FLUSH,
            (false, false) => self.pauses.delay(),
        };
        self.state.released(ok, self.waiting.len(), Instant::now() + retry);
    }

    fn forget_those_who_left(&mut self) {
        self.waiting.retain(|caller| !caller.reply.is_closed());
    }
}
