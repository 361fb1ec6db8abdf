// SPDX-License-Identifier: Apache-2.0
//! Runs the proxy as a process: logs, signals, start, shutdown, exit code.

mod bring_up;
mod shut_down;
mod waits;

use std::{error::Error, io, path::Path, process::ExitCode, sync::Arc, time::Duration};

use self::bring_up::Up;
use super::{
    admin::{self, Admin},
    capabilities::{self, Capabilities, CapabilityError},
    config::Config,
    health::{self, Health},
    log::Events,
    metrics,
    state::Sources,
};
use crate::{
    App,
    app::{
        ServeError,
        program::{self, BoxError, Program, Settings},
    },
    chain::{InvalidChain, causes},
    ipam::LeaseError,
    registry,
    transport::ListenError,
};

/// The names of the proxy.
pub(super) const PROGRAM: Program = Program {
    own: "proxy",
    logged: "Meridio-proxy",
    traced: "meridio-proxy",
    version: Some(env!("CARGO_PKG_VERSION")),
};

/// Threads that run calls. The kernel has a separate one, so that calls cannot starve it.
const WORKERS: usize = 2;

/// Time for the export of the last metrics.
const LAST_METRICS: Duration = Duration::from_secs(1);

/// The reason why the proxy ends before it serves, or stops serving.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The proxy cannot work without NET_ADMIN.
    #[error("not permitted to configure the network")]
    Capabilities(#[from] CapabilityError),
    /// The runtime cannot be set up, or the network namespace cannot be named; the system lacks
    /// some resource.
    #[error("cannot start")]
    System(#[from] io::Error),
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
}

/// Runs until a signal ends it. Exit code 0 after an orderly shutdown, 128 plus the number of the
/// signal if a second one cut it short, 1 with the reason in the log otherwise.
pub(crate) fn run() -> ExitCode {
    // Before the runtime: capabilities belong to threads, and its threads inherit them.
    let permitted = capabilities::raise();
    let config = match Config::from_environment() {
        Ok(config) => config,
        Err(mistakes) => return program::refuse(PROGRAM, &mistakes),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(live(config, permitted));
            // A name look-up may hang in its thread.
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(&Failure::System(error)),
    }
}

/// Prints a line to stderr, for a failure before there is a log.
fn complain(error: &(dyn Error + 'static)) -> ExitCode {
    let _lost = io::Write::write_fmt(&mut io::stderr(), format_args!("proxy: {}\n", causes(error)));
    ExitCode::FAILURE
}

async fn live(config: Config, permitted: Result<Capabilities, CapabilityError>) -> ExitCode {
    let events = Events::default();
    let settings = Settings {
        name: config.name.clone(),
        nsmgr: config.connect_to.clone(),
        token_lifetime: config.max_token_lifetime,
        log_level: config.log_level,
        agent: config.spiffe_endpoint_socket.clone(),
        telemetry: config.telemetry.clone(),
        warnings: config.warnings.clone(),
    };
    let sources = Sources::new(&config, &Health::default()).with_events(events.clone());
    App::start(PROGRAM, settings, Some(events), async |app: App| {
        if let Some(losses) = app.losses() {
            let _first = sources.handles().losses.set(Arc::clone(losses));
        }
        serve(&app, &config, &sources, permitted).await.map_err(BoxError::from)
    })
    .await
}

/// Brings everything up, waits for the end, and takes it down in reverse. A signal also ends a
/// start that waits.
async fn serve(
    app: &App,
    config: &Config,
    sources: &Sources,
    permitted: Result<Capabilities, CapabilityError>,
) -> Result<(), Failure> {
    let tasks = app.tasks();
    let health = sources.health();
    tasks.spawn(health.watch_start(health::STEP_TIMEOUT));
    let _served = health::serve(Path::new(health::SOCKET), health, tasks).await?;
    let metrics = metrics::start(config, sources);
    let _metrics = metrics::serve(config.metrics, metrics.as_ref(), tasks).await;
    let verbosity = app.verbosity().clone();
    let admin = Admin { sources: sources.clone(), verbosity, metrics: metrics.clone() };
    let _admin = admin::start(config.admin.as_ref(), admin, tasks).await;
    let capabilities = permitted?;
    tracing::info!(net_raw = capabilities.net_raw, "permitted to configure the network");
    let exported = metrics.clone().filter(|_| config.metrics_export.is_some());
    let mut up = Up { handles: Arc::clone(sources.handles()), metrics, ..Up::default() };
    let failed = tokio::select! {
        () = app.stopped() => None,
        failure = until_refused(&mut up, app, config, health) => Some(failure),
    };
    if let Some(failure) = &failed {
        tracing::error!(error = failure as &(dyn Error + 'static), "going down");
        app.stop();
    }
    match &failed {
        Some(Failure::Kernel(_)) => up.abandon(health),
        _ => up.down(health).await,
    }
    if let Some(metrics) = exported {
        metrics.stop(LAST_METRICS).await;
    }
    failed.map_or(Ok(()), Err)
}

/// Brings everything up; returns only the reason why it cannot be, or cannot stay, up.
async fn until_refused(up: &mut Up, app: &App, config: &Config, health: &Health) -> Failure {
    let (kernel, kept) = match up.kernel(config, health, app.tasks()).await {
        Ok(first) => first,
        Err(failure) => return failure,
    };
    let others = async {
        match up.bring((&kernel, kept), app, config, health).await {
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
