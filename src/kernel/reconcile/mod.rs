// SPDX-License-Identifier: Apache-2.0

//! Keeps the kernel in the declared state.
//!
//! A pass reads the kernel, compares, makes the changes and reads again. A pass starts when
//! something is declared, when the kernel reports a change, when time changes the desired state,
//! and at the resync, which finds changes without an event. An idle reconciler starts at once. A
//! busy one waits for twice the duration of the last pass (but no longer than a target that joins
//! can wait), and so handles the declarations that have arrived meanwhile as one batch. A pass that
//! finds the desired state writes nothing.
//!
//! A pass reads only the objects that events have reported as changed, so that its cost depends on
//! the number of changes and not on the number of objects. It reads everything at the resync, after
//! a failure, and before it concludes that a change had no effect.
//!
//! The result of each read is published at once; refusals, and the revision that a pass has
//! reached, are published at its end.

mod drift;
mod links;
mod progress;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use self::{
    drift::Drift,
    links::Links,
    progress::{End, Progress},
};
use super::{
    Backend, Degraded, Failure, Observed, Op, Status,
    apply::apply,
    claims::Claims,
    plan::plan,
    remembered::Remembered,
    snapshot::{Snapshot, Sources},
    sysctls,
};
use crate::task::{Backoff, jittered};

/// Longest pause between a pass and the declarations that arrived during it.
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// First pause after a failed pass; it doubles each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The loop that owns the connection to the kernel.
pub(super) struct Reconciler<B> {
    backend: B,
    claims: Arc<Claims>,
    remembered: Remembered,
    sysctls: sysctls::Check,
    /// Parts that could not be started.
    missing: Vec<Degraded>,
    status: watch::Sender<Status>,
    /// Whether the last pass failed.
    failed: bool,
    /// Pauses after failed passes.
    pauses: Backoff,
    drift: Drift,
    links: Links,
    /// When the next pass is due without any event.
    due: Instant,
    /// The result of the last read; `None` if everything has to be read.
    last_read: Option<Observed>,
    /// When everything has to be read.
    resync: Instant,
    /// When the last pass began.
    began: Instant,
}

/// The result of a pass.
struct Outcome {
    snapshot: Snapshot,
    observed: Observed,
    progress: Progress,
    left: Vec<Op>,
    end: End,
}

impl<B: Backend> Reconciler<B> {
    pub(super) fn new(
        backend: B,
        claims: Arc<Claims>,
        status: watch::Sender<Status>,
        missing: Vec<Degraded>,
    ) -> Self {
        let pauses = Backoff::new(FIRST_BACKOFF, claims.settings.max_backoff);
        Self {
            backend,
            claims,
            missing,
            remembered: Remembered::default(),
            sysctls: sysctls::Check::default(),
            status,
            failed: false,
            pauses,
            drift: Drift::default(),
            links: Links::default(),
            due: Instant::now(),
            last_read: None,
            resync: Instant::now(),
            began: Instant::now(),
        }
    }

    /// Runs until [`stop`](super::Kernel::stop) has been called and everything is withdrawn.
    pub(super) async fn run(mut self) {
        loop {
            self.began = Instant::now();
            let stopping = self.claims.stopping();
            let span = tracing::debug_span!("reconcile", changes = tracing::field::Empty);
            let done = self.pass().instrument(span).await;
            if stopping && done {
                self.status.send_modify(|status| status.stopped = true);
                return;
            }
            let ended = Instant::now();
            self.wait(ended + (2 * (ended - self.began)).min(MAX_PAUSE)).await;
        }
    }

    /// Waits for a reason to make a pass, but at least until `earliest`.
    async fn wait(&mut self, earliest: Instant) {
        let events_from = match self.failed {
            false => earliest,
            true => earliest.max(Instant::now() + FIRST_BACKOFF),
        };
        let event = async {
            self.backend.changed(&self.claims.settings.ours).await;
            sleep_until(events_from).await;
        };
        tokio::select! {
            () = self.claims.changed.notified() => {}
            () = event => {}
            () = sleep_until(self.due) => {}
        }
        sleep_until(earliest).await;
    }

    /// One pass; true if it reached the desired state.
    async fn pass(&mut self) -> bool {
        match self.converge().await {
            Ok(outcome) => self.conclude(outcome),
            Err(failure) => {
                self.failed = true;
                self.due = Instant::now() + self.pauses.delay();
                self.status.send_modify(|status| {
                    status.revision = self.claims.revision();
                    status.passes += 1;
                    status.busy += self.began.elapsed();
                    status.degraded = self.standing().chain([Degraded::Failing]).collect();
                    status.leak_stopped.clear();
                    status.list(vec![failure]);
                });
                false
            }
        }
    }

    async fn converge(&mut self) -> Result<Outcome, Failure> {
        let mut progress = Progress::default();
        if self.failed || Instant::now() >= self.resync {
            self.last_read = None;
        }
        loop {
            let (observed, whole) = self.read().await?;
            let (snapshot, relinked) = self.look(&observed);
            self.forget_neighbours(relinked).await;
            let left = plan(&observed, &snapshot.desired);
            if progress.was_tried(&left) && !whole {
                continue; // an event of the change may have been lost
            }
            if progress.is_new() {
                progress.drift = self.drift.of(&snapshot.desired, &left);
            }
            if let Some(end) = progress.end(&left) {
                return Ok(Outcome { snapshot, observed, progress, left, end });
            }
            self.status.send_modify(|status| status.read(&observed, &snapshot));
            let ours = &snapshot.desired.ours;
            let mut applied = apply(&mut self.backend, &observed, ours, &left, || {
                self.claims.revision() != snapshot.revision
            })
            .await;
            let until = Instant::now() + self.claims.settings.resync;
            self.remembered.refuse(std::mem::take(&mut applied.refused), until);
            if progress.take(snapshot.revision, left, applied) {
                self.reopen();
            } else {
                self.last_read = Some(observed);
            }
        }
    }

    /// Takes a snapshot of the desired state, given a dump, and finds the next hops that were
    /// claimed or linked again.
    fn look(&mut self, observed: &Observed) -> (Snapshot, BTreeSet<IpAddr>) {
        let settings = &self.claims.settings;
        let now = Instant::now();
        let (declared, notes) = self.claims.take();
        let relinked = self.remembered.look(&declared, notes, observed, settings, now);
        let remembered = &self.remembered;
        let mut snapshot = Sources { declared: &declared, remembered, observed, settings, now }.snapshot();
        // Readers of the status skip records that they have read.
        let published = Arc::clone(&self.status.borrow().peers);
        if published == snapshot.peers {
            snapshot.peers = published;
        }
        self.remembered.keep(&snapshot.desired.next_hops);
        (snapshot, relinked)
    }

    /// Removes the neighbour entries of addresses that were claimed or linked again. A peer whose
    /// link was made again has another link-layer address at the same IP address, and the kernel
    /// would send to the old one for up to a minute. The neighbour table is not part of the desired
    /// state, so this does not count as a write.
    async fn forget_neighbours(&mut self, relinked: BTreeSet<IpAddr>) {
        for address in relinked {
            let op = Op::ForgetNeighbour(address);
            if let Err(refusal) = self.backend.apply(&self.claims.settings.ours, &op).await {
                tracing::warn!(%op, %refusal, "refused");
            }
        }
    }

    /// Reads the changes since the last read; if that fails, everything, once more on a new
    /// connection. Also returns whether everything was read.
    async fn read(&mut self) -> Result<(Observed, bool), Failure> {
        let claims = Arc::clone(&self.claims);
        let ours = &claims.settings.ours;
        if let Some(last_read) = self.last_read.take()
            && let Ok(observed) = self.backend.refresh(ours, last_read).await
        {
            return Ok((observed, false));
        }
        self.resync = Instant::now() + jittered(self.claims.settings.resync);
        if let Ok(observed) = self.backend.dump(ours).await {
            return Ok((observed, true));
        }
        self.reopen();
        let again = self.backend.dump(ours).await;
        again.map(|observed| (observed, true)).map_err(|refusal| Failure { op: None, refusal })
    }

    fn reopen(&mut self) {
        if let Err(error) = self.backend.reopen() {
            tracing::warn!(%error, "no fresh connection to the kernel");
        }
    }

    /// Publishes the outcome, and decides when to read again.
    fn conclude(&mut self, outcome: Outcome) -> bool {
        let Outcome { snapshot, observed, progress, left, end } = outcome;
        let Progress { tried, drift, writes, failures, .. } = progress;
        tracing::Span::current().record("changes", writes);
        let done = end == End::Reached;
        let reverted = drift.count;
        self.drift.note(drift, self.claims.settings.resync);
        self.drift.leave(done.then_some((&snapshot.desired, &observed)));
        for peer in self.links.replaced(&snapshot.peers) {
            tracing::info!(%peer, "has another link than before");
        }
        if writes > 0 {
            tracing::debug!(writes, drift = reverted, ?end, "changed");
        }
        self.failed = end == End::Failing;
        if !self.failed {
            self.pauses.reset();
        }
        let pause = match end {
            End::Reached => None,
            End::Failing => Some(self.pauses.delay()),
            End::Unfinished => Some(Duration::ZERO),
        };
        self.check_sysctls(&observed);
        let dues = [pause.map(|pause| Instant::now() + pause), snapshot.due, self.sysctls.due()];
        self.due = dues.into_iter().flatten().fold(self.resync, Instant::min);
        let ours = &self.claims.settings.ours;
        let left_for_successor = !snapshot.desired.present && observed.bridge(ours).is_some();
        self.status.send_modify(|status| {
            status.read(&observed, &snapshot);
            let reached = done.then_some(snapshot.revision);
            status.revision = reached.or(tried).unwrap_or(status.revision);
            status.passes += 1;
            status.busy += self.began.elapsed();
            status.writes += writes;
            status.reverted = self.drift.recent();
            status.drift = reverted;
            status.drifts += reverted as u64;
            status.orphans = snapshot.orphans;
            status.degraded = self.standing().chain(snapshot.degraded).collect();
            status.degraded.extend((end == End::Failing).then_some(Degraded::Failing));
            status.degraded.extend((done && left_for_successor).then_some(Degraded::LeftForSuccessor));
            status.list(failures);
            status.leave(snapshot.desired, left);
        });
        // A pass may fail to reach its end because events of its changes were lost.
        self.last_read = done.then_some(observed);
        done
    }

    /// Degradations that do not depend on the outcome of a pass.
    fn standing(&self) -> impl Iterator<Item = Degraded> {
        self.sysctls.degraded().chain(self.missing.iter().cloned())
    }

    /// Checks the sysctls if it is time to. No event reports that a sysctl was corrected, so wrong
    /// ones are checked more often.
    fn check_sysctls(&mut self, observed: &Observed) {
        let settings = &self.claims.settings;
        let now = Instant::now();
        if self.sysctls.is_due(observed, now) {
            let wrong = self.backend.wrong_sysctls(&settings.ours, settings.families);
            // Half of the interval, so that the check is not later than the next resync, which may
            // be early.
            let pause = if wrong.is_empty() { settings.resync / 2 } else { settings.max_backoff };
            self.sysctls.take(wrong, observed, now + pause);
        }
    }
}
