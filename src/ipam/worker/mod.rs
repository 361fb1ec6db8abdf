// SPDX-License-Identifier: Apache-2.0

//! The task that owns all leases: it drives their state machines, makes their calls, and answers
//! the callers.

mod handover;
mod owners;
mod validate;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{
    future::{BoxFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    Allocator, BRIDGE, LeaseError, PORTS, Settings, Status,
    call::{Caller, Done, Outcome},
    entry::{Entry, Waiter},
    leases::MAX_LEASES,
    list::{List, Listed},
    restored::{Record, Restored},
    state::{Phase, State},
    used::Used,
};
use crate::{api::Dual, chain::Owner};

/// The requests of a handle to the task.
pub(super) enum Command {
    Acquire { child: Arc<str>, owner: Option<Owner>, renew: Option<Duration>, waiting: Waiter },
    Records(oneshot::Sender<Vec<Record>>),
    Flush { deadline: Instant, done: oneshot::Sender<Vec<Record>> },
}

/// The places where the leases are published.
pub(super) struct Publish {
    pub(super) status: watch::Sender<Status>,
    pub(super) list: watch::Sender<List>,
}

pub(super) struct Worker<A> {
    caller: Caller<A>,
    settings: Settings,
    commands: mpsc::Receiver<Command>,
    dropped: mpsc::Receiver<Arc<str>>,
    publish: Publish,
    status: Status,
    restored: Restored,
    /// When renewals were last brought forward.
    hurried: Option<Instant>,
    entries: HashMap<Arc<str>, Entry>,
    used: Used,
    schedule: BTreeSet<(Instant, Arc<str>)>,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    flush: Option<(Instant, oneshot::Sender<Vec<Record>>)>,
}

impl<A: Allocator> Worker<A> {
    pub(super) fn new(
        allocator: A,
        settings: Settings,
        restored: Restored,
        commands: mpsc::Receiver<Command>,
        dropped: mpsc::Receiver<Arc<str>>,
        publish: Publish,
    ) -> Self {
        Self {
            caller: Caller::new(allocator, settings.families.clone(), settings.rpc_timeout),
            settings,
            commands,
            dropped,
            publish,
            status: Status::default(),
            restored,
            hurried: None,
            entries: HashMap::new(),
            used: Used::default(),
            schedule: BTreeSet::new(),
            calls: FuturesUnordered::new(),
            flush: None,
        }
    }

    /// Runs until flushed, or until no handle is left and nothing remains to do. A request that
    /// arrives after the holder of its lease has gone takes that into account.
    pub(super) async fn run(mut self) {
        while !self.flushed() {
            self.due();
            self.report();
            let wake = self.wake();
            tokio::select! {
                biased;
                Some(child) = self.dropped.recv() => self.holder_gone(&child),
                Some(done) = self.calls.next() => self.ended(done),
                Some(command) = self.commands.recv() => self.handle(command),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                else => break,
            }
        }
        self.report();
        if let Some((_, done)) = self.flush.take() {
            let _left = done.send(self.records());
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Acquire { waiting, .. } if self.flush.is_some() => waiting.refuse(LeaseError::Stopped),
            Command::Acquire { child, owner, renew, waiting } => self.acquire(child, owner, renew, waiting),
            Command::Records(reply) => {
                let _left = reply.send(self.records());
            }
            Command::Flush { deadline, done } => self.start_flush(deadline, done),
        }
    }

    fn acquire(&mut self, child: Arc<str>, owner: Option<Owner>, renew: Option<Duration>, waiting: Waiter) {
        let child = self.name_for(child, owner.as_ref());
        if self.entries.len() >= MAX_LEASES && !self.entries.contains_key(&child) {
            return waiting.refuse(LeaseError::TooMany { limit: MAX_LEASES });
        }
        let every = self.settings.renew;
        self.entries.entry(Arc::clone(&child)).or_insert_with(|| match self.restored.take(&child) {
            Some(record) => Entry::restored(record, every),
            None => Entry::new(Arc::clone(&child), owner, every),
        });
        self.step(&child, |entry| {
            if let Some(every) = renew {
                entry.renew_every(every);
            }
            entry.acquire(waiting);
        });
    }

    fn holder_gone(&mut self, child: &Arc<str>) {
        let at = self.release_at();
        self.step(child, |entry| entry.state.dropped(at));
    }

    fn ended(&mut self, done: Done) {
        let Done { child, mut outcome } = done;
        let (others, at_once) = self.validate(&child, &mut outcome);
        let release_at = if at_once { Instant::now() } else { self.release_at() };
        let flushing = self.flush.is_some();
        let rpc_timeout = self.settings.rpc_timeout;
        let failed_before = self.status.last_error.is_some();
        self.note(&child, &outcome);
        if let Outcome::Allocated(answers) | Outcome::Renewed(answers) = &outcome {
            self.withdraw_addresses(&child, answers);
        }
        let mut moved = false;
        self.step(&child, |entry| match outcome {
            Outcome::Allocated(answers) => entry.allocated(&answers, release_at, rpc_timeout),
            Outcome::Renewed(answers) => moved = entry.renewed(&answers),
            Outcome::Released(answer) => entry.released(answer.is_ok(), flushing),
        });
        for other in others {
            self.step(&other, |entry| entry.state.renew_by(Instant::now()));
        }
        if moved {
            self.renew_soon(|state| state.moved().is_none());
        } else if failed_before && self.status.last_error.is_none() {
            self.renew_soon(State::is_unverified);
        }
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some((at, child)) = self.schedule.first().cloned()
            && at <= now
        {
            self.step(&child, |_| ());
        }
    }

    /// Changes one lease, begins the call that follows, and schedules the next check.
    fn step(&mut self, child: &Arc<str>, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(child) else {
            return;
        };
        count(&mut self.status, child, &entry.state, -1);
        self.used.remove(child, &entry.state);
        if let Some(at) = entry.scheduled.take() {
            self.schedule.remove(&(at, Arc::clone(child)));
        }
        change(entry);
        if let Some(call) = entry.state.begin(Instant::now()) {
            self.calls.push(self.caller.call(Arc::clone(child), call).instrument(entry.span()).boxed());
        }
        entry.scheduled = entry.state.wake();
        if let Some(at) = entry.scheduled {
            self.schedule.insert((at, Arc::clone(child)));
        }
        count(&mut self.status, child, &entry.state, 1);
        self.used.insert(child, &entry.state);
        match entry.state.moved() {
            Some(_) => self.status.moved.insert(Arc::clone(child)),
            None => self.status.moved.remove(child),
        };
        self.publish.list.send_if_modified(|list| {
            match Listed::of(&entry.state) {
                Some(listed) => list.insert(Arc::clone(child), listed),
                None => list.remove(child),
            };
            false // it is read, not awaited
        });
        if entry.state.is_free() {
            self.entries.remove(child);
        }
    }

    fn start_flush(&mut self, deadline: Instant, done: oneshot::Sender<Vec<Record>>) {
        self.flush = Some((deadline, done));
        let now = Instant::now();
        let children = self.entries.keys().cloned().collect::<Vec<_>>();
        for child in children {
            self.step(&child, |entry| entry.state.hurry(now));
        }
    }

    /// Whether a flush is over: nothing is left to release, or its deadline has passed.
    fn flushed(&self) -> bool {
        let idle = self.status.wanted + self.status.releasing == 0;
        self.flush.as_ref().is_some_and(|(deadline, _)| idle || *deadline <= Instant::now())
    }

    fn wake(&self) -> Option<Instant> {
        let next = self.schedule.first().map(|(at, _)| *at);
        next.into_iter().chain(self.flush.as_ref().map(|(deadline, _)| *deadline)).min()
    }

    /// The time at which a lease is released whose last holder goes now.
    fn release_at(&self) -> Instant {
        let delay = if self.flush.is_some() { Duration::ZERO } else { self.settings.release_delay };
        Instant::now() + delay
    }

    /// Records and logs the end of a call; repeats of the same failure are not logged as warnings.
    fn note(&mut self, child: &str, outcome: &Outcome) {
        let (call, error) = match outcome {
            Outcome::Allocated(answers) => {
                ("allocate", answers.iter().find_map(|(_, answer)| answer.as_ref().err()))
            }
            Outcome::Renewed(answers) => {
                ("renew", answers.iter().find_map(|(_, answer)| answer.as_ref().err()))
            }
            Outcome::Released(answer) => ("release", answer.as_ref().err()),
        };
        if let Some(error) = error {
            self.status.failures += 1;
            if self.status.last_error.as_ref() == Some(error) {
                tracing::debug!(child, call, %error, "the address service failed again");
            } else {
                tracing::warn!(child, call, %error, "the address service failed");
            }
        }
        self.status.last_error = error.cloned();
    }

    fn report(&self) {
        self.publish.status.send_if_modified(|published| {
            let modified = *published != self.status;
            published.clone_from(&self.status);
            modified
        });
    }
}

/// Adds a lease to (1) or removes it from (-1) the figures.
fn count(status: &mut Status, child: &str, state: &State, by: isize) {
    let figure = match state.phase {
        Phase::Free => None,
        Phase::Wanted => Some(&mut status.wanted),
        Phase::Held { .. } => Some(&mut status.held),
        Phase::Releasing { .. } => Some(&mut status.releasing),
    };
    let unverified = state.is_unverified().then_some(&mut status.unverified);
    for figure in figure.into_iter().chain(unverified) {
        *figure = figure.saturating_add_signed(by);
    }
    if ![BRIDGE, PORTS].contains(&child) && matches!(state.phase, Phase::Held { .. }) {
        for (_, net) in state.addresses().iter().flat_map(Dual::iter) {
            let leases = status.subnets.entry(net.trunc()).or_default();
            *leases = leases.saturating_add_signed(by);
        }
        status.subnets.retain(|_, leases| *leases > 0);
    }
}
