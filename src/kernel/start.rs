// SPDX-License-Identifier: Apache-2.0

//! Starts a reconciler with its prober of load balancers and its announcer of addresses.

use std::{any::Any, io, sync::Arc, thread, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::{
    Backend, Degraded, Kernel, Settings, Status,
    announce::Announcer,
    claims::Claims,
    liveness::{Prober, Verdicts},
    reconcile::Reconciler,
};
use crate::task::{Tasks, panic_message};

/// Timeout for the end of the reconciler's thread.
const LAST_CHANGE: Duration = Duration::from_secs(2);

impl Kernel {
    /// Starts the reconciler as a task of the current runtime: for a kernel in memory, also under
    /// paused time.
    pub fn start<B: Backend>(settings: Settings, backend: B, tasks: &Tasks) -> Self {
        let (kernel, reconciler) = prepare(settings, backend);
        tasks.spawn(reconciler);
        kernel
    }

    /// Starts the reconciler on a thread with its own runtime, so that other work of this process
    /// cannot delay it. The thread is in the network namespace of the caller, as are the sockets
    /// that `open` creates on it. It ends with the tasks, whose stop waits for the change in
    /// progress, at most two seconds; nothing is written after it.
    ///
    /// # Errors
    /// Those of `open`, and of starting a thread or a runtime.
    pub async fn start_on_thread<B: Backend>(
        settings: Settings,
        open: impl FnOnce() -> io::Result<B> + Send + 'static,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let (started, starting) = oneshot::channel();
        let (alive, stop) = oneshot::channel::<()>();
        let (ended, mut end) = oneshot::channel::<()>();
        thread::Builder::new().name("kernel".into()).spawn(move || {
            let _ended = ended;
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                let (kernel, reconciler) = match open() {
                    Ok(backend) => prepare(settings, backend),
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok(kernel)).is_ok() {
                    tokio::select! { _ = stop => {} () = reconciler => {} }
                }
            });
        })?;
        let kernel =
            starting.await.unwrap_or_else(|_| Err(io::Error::other("the reconciler's thread panicked")))?;
        tasks.spawn_graceful(|stopping| async move {
            tokio::select! { _closed = &mut end => return, () = stopping => drop(alive) }
            if timeout(LAST_CHANGE, end).await.is_err() {
                tracing::error!("the reconciler's thread is still at work after {LAST_CHANGE:?}");
            }
        });
        Ok(kernel)
    }
}

/// The handle, and the future to run. If that panics, the handle reports why.
fn prepare<B: Backend>(
    settings: Settings,
    mut backend: B,
) -> (Kernel, impl Future<Output = ()> + Send + 'static) {
    let claims = Arc::new(Claims::new(settings));
    let (status, shown) = watch::channel(Status::default());
    let (verdicts, seen) = watch::channel(Verdicts::new());
    let mut missing = Vec::new();
    let prober = prober(&mut backend, &claims, &shown, verdicts).unwrap_or_else(|error| {
        missing.push(Degraded::NotProbed(error.to_string()));
        None
    });
    let announcer = announcer(&mut backend, &claims, &shown).unwrap_or_else(|error| {
        missing.push(Degraded::NotAnnounced(error.to_string()));
        None
    });
    let reconciler = Reconciler::new(backend, claims.clone(), status, missing);
    let (ended, end) = watch::channel(None);
    // Each part is a task, so that a timer of one polls that one only.
    let run = async move {
        let mut parts = JoinSet::new();
        parts.spawn(reconciler.run());
        prober.map(|prober| parts.spawn(prober.run()));
        announcer.map(|announcer| parts.spawn(announcer.run()));
        let why = match parts.join_next().await.map(|ended| ended.map_err(JoinError::try_into_panic)) {
            Some(Err(Ok(panic))) => text(&*panic),
            _ => "it was stopped".to_owned(),
        };
        ended.send_replace(Some(why));
    };
    (Kernel { claims, status: shown, verdicts: seen, end }, run)
}

fn prober<B: Backend>(
    backend: &mut B,
    claims: &Arc<Claims>,
    status: &watch::Receiver<Status>,
    verdicts: watch::Sender<Verdicts>,
) -> io::Result<Option<Prober>> {
    let Some(settings) = claims.settings.liveness else { return Ok(None) };
    let neighbours = backend.neighbours(Some(settings))?;
    Ok(Some(Prober::new(settings, neighbours, claims.clone(), status.clone(), verdicts)))
}

fn announcer<B: Backend>(
    backend: &mut B,
    claims: &Arc<Claims>,
    status: &watch::Receiver<Status>,
) -> io::Result<Option<Announcer>> {
    if !claims.settings.announce {
        return Ok(None);
    }
    let neighbours = backend.neighbours(claims.settings.liveness)?;
    let announcements = backend.announcements()?;
    Ok(Some(Announcer::new(neighbours, announcements, claims.clone(), status.clone())))
}

/// The message of a panic.
fn text(panic: &(dyn Any + Send)) -> String {
    format!("it panicked: {}", panic_message(panic).unwrap_or("without a message"))
}
