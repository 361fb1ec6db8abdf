// SPDX-License-Identifier: Apache-2.0

//! Bounded FIFO queue of the calls and events of one connection.
//!
//! 1. At most [`CALLS`] calls are queued, plus one slot reserved for a Close.
//! 2. At most one event of each kind is queued.
//! 3. A Request whose caller has gone and an event whose task has ended give up their slot. A Close
//!    stays.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::{Notify, oneshot};
use tracing::Span;

use crate::{
    api::Connection,
    chain::{Call, EventKind, Reason, Result, begin::event::EventCall},
    task::Tasks,
};

/// Maximum number of queued calls, not counting the one being processed.
pub(crate) const CALLS: usize = 8;

pub(crate) type Reply = oneshot::Sender<Result<Box<Connection>>>;

pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) reply: Reply,
    pub(crate) span: Span,
}

pub(crate) enum Work {
    Call(Call),
    Event { kind: EventKind, call: EventCall, under: Option<Weak<()>> },
}

impl Job {
    /// Rule 3.
    pub(crate) fn wanted(&self) -> bool {
        match &self.work {
            Work::Call(Call::Close(_)) => true,
            Work::Call(Call::Request(_)) => !self.reply.is_closed(),
            Work::Event { under, .. } => under.as_ref().is_none_or(|task| task.strong_count() > 0),
        }
    }
}

impl Work {
    fn is_event(&self, of: EventKind) -> bool {
        matches!(self, Self::Event { kind, .. } if *kind == of)
    }

    fn is_close(&self) -> bool {
        matches!(self, Self::Call(Call::Close(_)))
    }
}

/// Input queue of a lane.
pub(crate) struct Mailbox {
    queue: Mutex<Option<VecDeque<Job>>>, // none: ended
    arrived: Notify,
    pub(crate) tasks: Tasks,
}

impl Mailbox {
    pub(crate) fn new(tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(Some(VecDeque::new())), arrived: Notify::new(), tasks })
    }

    /// Queues a job, or returns the reason why it was refused.
    pub(crate) fn push(&self, job: Job) -> Result<()> {
        let mut queue = self.lock();
        let jobs = queue.as_mut().ok_or(Reason::Ended)?;
        jobs.retain(Job::wanted);
        admit(jobs, &job.work)?;
        jobs.push_back(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for the next job in FIFO order. Cancel-safe.
    pub(crate) async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.lock().as_mut().and_then(VecDeque::pop_front) {
                return job;
            }
            self.arrived.notified().await;
        }
    }

    /// Closes the queue if it is empty.
    pub(crate) fn end_if_empty(&self) -> bool {
        let mut queue = self.lock();
        let empty = queue.as_ref().is_none_or(VecDeque::is_empty);
        if empty {
            *queue = None;
        }
        empty
    }

    /// Closes the queue; queued jobs are answered with `Ended`.
    pub(crate) fn end(&self) {
        let waiting = self.lock().take();
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Job>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rules 1 and 2.
fn admit(jobs: &VecDeque<Job>, work: &Work) -> Result<(), Reason> {
    let calls = jobs.iter().filter(|j| matches!(j.work, Work::Call(_)));
    match work {
        Work::Event { kind, .. } if jobs.iter().any(|j| j.work.is_event(*kind)) => Err(Reason::Pending),
        Work::Event { .. } => Ok(()),
        Work::Call(Call::Close(_)) if !jobs.iter().any(|j| j.work.is_close()) => Ok(()),
        Work::Call(_) if calls.count() < CALLS => Ok(()),
        Work::Call(_) => {
            let text = format!("{CALLS} calls of this connection wait already (at most {CALLS})");
            Err(Reason::Exhausted(text))
        }
    }
}
