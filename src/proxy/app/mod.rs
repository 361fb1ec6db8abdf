// SPDX-License-Identifier: Apache-2.0
//! Runs the proxy as a process: logs, signals, start, shutdown, exit code.

mod bring_up;
mod shut_down;
mod waits;

use std::{io, path::Path, process::ExitCode, sync::Arc, time::Duration};

use tokio::time::timeout;
use tracing_subscriber::prelude::*;

use self::{bring_up::Up, shut_down::unless_interrupted};
use super::{
    admin::{self, Admin},
    capabilities::{self, Capabilities, CapabilityError},
    config::{Config, LogLevel, Mistakes},
    health::{self, Health},
    log::{self, Events, Verbosity},
    metrics,
    state::Sources,
    telemetry::Telemetry,
};
use crate::{
    app::{
        ServeError,
        signals::{Ending, Termination},
    },
    chain::{InvalidChain, causes},
    ipam::LeaseError,
    registry,
    task::Tasks,
    transport::{ListenError, descriptors},
};

/// Threads that run calls. The kernel has a separate one, so that calls cannot starve it.
const WORKERS: usize = 2;
/// Number of descriptors that lets peers have as many connections as the proxy keeps.
pub(super) const NEEDED_DESCRIPTORS: u64 = 2176;
/// Time for the remaining tasks at the end, and for the last spans.
const FLUSH: Duration = Duration::from_secs(1);

/// The reason why the proxy ends before it serves, or stops serving.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The proxy cannot work without NET_ADMIN.
    #[error("not permitted to configure the network")]
    Capabilities(#[from] CapabilityError),
    /// The runtime, the signals or the log cannot be set up; the system lacks some resource.
    #[error("cannot start")]
    System(#[from] io::Error),
    /// Another subscriber is installed: the proxy must be the only program in its process.
    #[error("cannot log")]
    Log(#[from] tracing_subscriber::util::TryInitError),
    /// The probes of the pod cannot be answered.
    #[error("cannot serve health")]
    Health(#[from] ListenError),
    /// The leases ended while the proxy was coming up.
    #[error("cannot lease addresses")]
    Leases(#[from] LeaseError),
    /// The reconciler ended by itself. This is a bug. Its objects in the kernel carry traffic, so
    /// nothing is taken down.
    #[error("the kernel is not reconciled any more: {0}")]
    Kernel(String),
    /// A row of a chain stands in the wrong place. This is a bug.
    #[error("a chain is in the wrong order")]
    Order(#[from] InvalidChain),
    /// The proxy cannot listen for targets.
    #[error("cannot serve targets")]
    Endpoint(#[from] ServeError),
    /// Another network service of this name is registered, so targets would not find this proxy.
    #[error("cannot be registered")]
    Refused(#[source] Arc<registry::Error>),
    /// A second signal came during the shutdown. The remaining steps are skipped.
    #[error("ended by {} before all was taken down", .0.name)]
    Interrupted(Ending),
}

/// Runs until a signal ends it. Exit code 0 after an orderly shutdown, 128 plus the number of the
/// signal if a second one cut it short, 1 with the reason in the log otherwise.
pub fn run() -> ExitCode {
    // Before the runtime: capabilities belong to threads, and its threads inherit them.
    let permitted = capabilities::raise();
    match Config::from_environment() {
        Ok(config) => run_with(config, permitted),
        Err(mistakes) => refuse(&mistakes),
    }
}

/// Prints a line to stderr, for a failure before there is a log.
fn complain(error: &(dyn std::error::Error + 'static)) {
    let _lost = io::Write::write_fmt(&mut io::stderr(), format_args!("proxy: {}\n", causes(error)));
}

/// Logs every mistake in a line of its own.
fn refuse(mistakes: &Mistakes) -> ExitCode {
    let (layer, _verbosity) = log::layer(LogLevel::Info, io::stdout);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        mistakes.log();
    });
    ExitCode::FAILURE
}

fn run_with(config: Config, permitted: Result<Capabilities, CapabilityError>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let ended = runtime.map_err(Failure::from).and_then(|runtime| {
        let ended = runtime.block_on(live(config, permitted));
        // A name look-up may hang in its thread.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let error: &(dyn std::error::Error + 'static) = &failure;
            tracing::error!(critical = true, error, "proxy fails");
            if matches!(failure, Failure::System(_) | Failure::Log(_)) {
                complain(error); // there may be no log yet
            }
            match failure {
                Failure::Interrupted(signal) => ExitCode::from(signal.exit_code()),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn live(config: Config, permitted: Result<Capabilities, CapabilityError>) -> Result<(), Failure> {
    let telemetry = config.telemetry.as_ref().map(|to| Telemetry::start(&config.name, to));
    let (telemetry, unexported) = telemetry.transpose().map_or_else(|e| (None, Some(e)), |t| (t, None));
    let events = Events::default();
    let (lines, verbosity) = log::layer_of(log::PROXY, config.log_level, io::stdout, Some(events.clone()));
    let spans = telemetry.as_ref().map(Telemetry::layer);
    tracing_subscriber::registry().with(lines).with(spans).try_init()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), name = config.name, "proxy starts");
    match descriptors::raise() {
        Ok(limit) if limit < NEEDED_DESCRIPTORS => {
            tracing::warn!(limit, needed = NEEDED_DESCRIPTORS, "few descriptors for connections")
        }
        Ok(limit) => tracing::info!(limit, "descriptors"),
        Err(error) => {
            let limit = descriptors::limit();
            tracing::warn!(%error, limit, "the limit of descriptors cannot be raised");
        }
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(error) = &unexported {
        tracing::warn!(error = error as &(dyn std::error::Error + 'static), "no spans are exported");
    }
    let tasks = Tasks::default();
    let mut termination = Termination::catch()?;
    tasks.spawn(verbosity.follow_signals()?);
    let sources = Sources::new(&config, &Health::default()).with_events(events);
    if let Some(telemetry) = &telemetry {
        let _first = sources.handles().losses.set(telemetry.losses());
    }
    let ended = serve(&config, &sources, verbosity, permitted, &tasks, &mut termination).await;
    if let Err(Failure::Interrupted(_)) = ended {
        return ended;
    }
    if timeout(FLUSH, tasks.stop()).await.is_err() {
        tracing::warn!(tasks = tasks.len(), "not every task has ended");
    }
    if let Some(telemetry) = telemetry {
        telemetry.stop(FLUSH).await;
    }
    ended
}

/// Brings everything up, waits for the end, and takes it down in reverse. A signal also ends a
/// start that waits.
async fn serve(
    config: &Config,
    sources: &Sources,
    verbosity: Verbosity,
    permitted: Result<Capabilities, CapabilityError>,
    tasks: &Tasks,
    termination: &mut Termination,
) -> Result<(), Failure> {
    let health = sources.health();
    tasks.spawn(health.watch_start(health::STEP_TIMEOUT));
    let _served = health::serve(Path::new(health::SOCKET), health, tasks).await?;
    let metrics = metrics::start(config, sources);
    let _metrics = metrics::serve(config.metrics, metrics.as_ref(), tasks).await;
    let admin = Admin { sources: sources.clone(), verbosity, metrics: metrics.clone() };
    let _admin = admin::start(config.admin.as_ref(), admin, tasks).await;
    let capabilities = permitted?;
    tracing::info!(net_raw = capabilities.net_raw, "permitted to configure the network");
    let mut up = Up { handles: Arc::clone(sources.handles()), metrics, ..Up::default() };
    let ended = tokio::select! {
        signal = termination.received() => Ok(signal.name),
        failed = until_refused(&mut up, config, health, tasks) => Err(failed),
    };
    match &ended {
        Ok(signal) => tracing::info!(signal, "going down"),
        Err(failure) => tracing::error!(error = failure as &(dyn std::error::Error + 'static), "going down"),
    }
    match &ended {
        Err(Failure::Kernel(_)) => up.abandon(health),
        _ => unless_interrupted(up.down(health), termination).await?,
    }
    ended.map(drop)
}

/// Brings everything up; returns only the reason why it cannot be, or cannot stay, up.
async fn until_refused(up: &mut Up, config: &Config, health: &Health, tasks: &Tasks) -> Failure {
    let (kernel, kept) = match up.kernel(config, health, tasks).await {
        Ok(first) => first,
        Err(failure) => return failure,
    };
    let others = async {
        match up.bring((&kernel, kept), config, health, tasks).await {
            Ok(()) => Failure::Refused(up.refused().await),
            Err(failure) => failure,
        }
    };
    tokio::select! {
        biased;
        why = kernel.ended() => Failure::Kernel(why),
        failure = others => failure,
    }
}
