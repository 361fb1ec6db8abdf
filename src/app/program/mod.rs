// SPDX-License-Identifier: Apache-2.0

//! A program: configuration, identity, log, spans, signals, and an end in order.

mod ending;
mod names;
mod settings;

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use tokio::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::prelude::*;

use self::ending::{Failed, exit_code, until_ended};
pub(crate) use self::{names::Program, settings::Settings};
use super::{
    ClientBuilder, EndpointBuilder,
    client::Client,
    config::{Action, Env, Mistakes, action},
    endpoint::Endpoint,
    log::{self, Events, LogLevel, Verbosity},
    signals::Termination,
    telemetry::{Losses, Telemetry},
};
use crate::{
    chain::causes,
    task::Tasks,
    transport::{Address, Identity, descriptors},
};

/// Time for the remaining tasks at the end, and for the last spans.
const FLUSH: Duration = Duration::from_secs(1);

/// The error of a program's own part.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A program of Network Service Mesh while it runs. Clones are handles of the same.
///
/// [`App::run`] reads the variables that every program of NSM has, and those of its author, with
/// every mistake at once; `--help` prints them. It logs lines of JSON, at TRACE between SIGUSR2 and
/// SIGUSR1, exports spans by OTLP, and ends in order at SIGTERM, SIGINT, SIGHUP or SIGQUIT. A
/// second signal ends it at once.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use nsm::{
///     App,
///     app::config::{Env, Variable},
///     elements::{mechanism::{self, Names}, point_to_point::{Groups, PointToPoint}, send_fd::{self, Netns}},
/// };
///
/// fn read(env: &mut Env) -> Option<Groups> {
///     let groups = Variable::new("NSM_CIDR_PREFIX", "169.254.0.0/16", "Groups of prefixes");
///     env.parsed(groups, "172.16.0.0/16 or [172.16.0.0/16,172.17.0.0/16],[fd00::/64]")
/// }
///
/// #[tokio::main]
/// async fn main() -> ExitCode {
///     App::run(env!("CARGO_CRATE_NAME"), read, async |app: App, groups| {
///         app.endpoint()
///             .with(PointToPoint::new(groups))
///             .with(mechanism::Endpoint::new(Names::of_pod()))
///             .with(send_fd::Endpoint::new(Netns::own()?))
///             .offer("hello")
///             .run(app.stopped())
///             .await?;
///         Ok(())
///     })
///     .await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct App {
    settings: Settings,
    identity: Arc<OnceLock<Identity>>,
    tasks: Tasks,
    stop: CancellationToken,
    verbosity: Verbosity,
    losses: Option<Arc<Losses>>,
}

impl App {
    /// Runs a program. `program` is its crate, which names it in the log and in spans; `read` reads
    /// its variables; `main` runs until it has done its work, or until the program is
    /// [stopped](Self::stopped).
    ///
    /// Returns 0 if `main` succeeds, 128 plus the number of the signal if a second signal ended it,
    /// 2 for an argument that is not accepted, and otherwise 1, with the reason in the log.
    pub async fn run<C>(
        program: &'static str,
        read: impl FnOnce(&mut Env) -> Option<C>,
        main: impl AsyncFnOnce(App, C) -> Result<(), BoxError>,
    ) -> ExitCode {
        let mut help = String::new();
        let config = Env::of_process().read(|env| {
            let settings = Settings::read(env);
            let config = read(env);
            help = env.help();
            Some((settings?, config?))
        });
        match (action(), config) {
            (Action::Run, Ok((settings, config))) => {
                Self::start(Program::new(program), settings, None, async |app| main(app, config).await).await
            }
            (Action::Run, Err(mistakes)) => refuse(Program::new(program), &mistakes),
            (Action::Help, _) => print(&mut io::stdout(), help, ExitCode::SUCCESS),
            (Action::Unknown(argument), _) => {
                let text = format!("{program}: argument {argument:?} is not accepted (accepted: --help)\n");
                print(&mut io::stderr(), text, ExitCode::from(2))
            }
        }
    }

    /// Runs a program that has read its variables. The last lines of its log are noted in `events`.
    pub(crate) async fn start(
        program: Program,
        settings: Settings,
        events: Option<Events>,
        main: impl AsyncFnOnce(Self) -> Result<(), BoxError>,
    ) -> ExitCode {
        let to = settings.telemetry.as_ref();
        let telemetry = to.map(|to| Telemetry::start_as(program, &settings.name, to)).transpose();
        let (telemetry, unexported) = telemetry.map_or_else(|e| (None, Some(e)), |t| (t, None));
        let (lines, verbosity) = log::layer_of(program, settings.log_level, io::stdout, events);
        let spans = telemetry.as_ref().map(Telemetry::layer);
        if let Err(error) = tracing_subscriber::registry().with(lines).with(spans).try_init() {
            let text = format!("{}: cannot log: {}\n", program.own, causes(&error));
            return print(&mut io::stderr(), text, ExitCode::FAILURE);
        }
        tracing::info!(version = program.version, name = settings.name, "{} starts", program.own);
        raise_descriptors();
        settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if let Some(error) = &unexported {
            tracing::warn!(error = error as &(dyn Error + 'static), "no spans are exported");
        }
        let app = Self {
            settings,
            identity: Arc::default(),
            tasks: Tasks::default(),
            stop: CancellationToken::new(),
            verbosity,
            losses: telemetry.as_ref().map(Telemetry::losses),
        };
        let ended = live(app, main).await;
        match telemetry {
            Some(telemetry) if !matches!(ended, Err(Failed::Interrupted(_))) => telemetry.stop(FLUSH).await,
            _ => {}
        }
        exit_code(program.own, ended)
    }

    /// The name of the pod, `NSM_NAME`.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The identity, which follows the SPIFFE Workload API from the first use on.
    pub fn identity(&self) -> &Identity {
        self.identity.get_or_init(|| Identity::follow(&self.settings.agent, &self.tasks))
    }

    /// The address of nsmgr, `NSM_CONNECT_TO`.
    pub fn nsmgr(&self) -> &Address {
        &self.settings.nsmgr
    }

    /// The owner of the background tasks, which are stopped after `main`.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Waits until a signal asks the program to end. Cancel-safe.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.stop.clone().cancelled_owned()
    }

    /// Asks the program to end, as a signal does. From then on, a signal ends it at once.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The level of the log.
    #[cfg(feature = "proxy")]
    pub(crate) fn verbosity(&self) -> &Verbosity {
        &self.verbosity
    }

    /// Counters of the spans that were not exported; `None` if none are exported.
    pub fn losses(&self) -> Option<&Arc<Losses>> {
        self.losses.as_ref()
    }

    /// Begins an endpoint of this name and identity, which is registered with nsmgr.
    pub fn endpoint(&self) -> EndpointBuilder {
        Endpoint::builder(self.name(), self.identity().clone(), &self.tasks)
            .register_with(self.nsmgr())
            .token_lifetime(self.settings.token_lifetime)
    }

    /// Begins a client of this name and identity, which calls nsmgr.
    pub fn client(&self) -> ClientBuilder {
        Client::builder(self.name(), self.identity().clone(), self.nsmgr(), &self.tasks)
            .token_lifetime(self.settings.token_lifetime)
    }
}

async fn live(app: App, main: impl AsyncFnOnce(App) -> Result<(), BoxError>) -> Result<(), Failed> {
    let App { tasks, stop, verbosity, .. } = app.clone();
    let mut termination = Termination::catch()?;
    tasks.spawn(verbosity.follow_signals()?);
    let ended = until_ended(main(app), &mut termination, &stop).await;
    let interrupted = matches!(ended, Err(Failed::Interrupted(_)));
    if !interrupted && tokio::time::timeout(FLUSH, tasks.stop()).await.is_err() {
        tracing::warn!(tasks = tasks.len(), "not every task has ended");
    }
    ended
}

/// Raises the limit of descriptors, and logs it.
fn raise_descriptors() {
    match descriptors::raise() {
        Ok(limit) if limit < descriptors::NEEDED => {
            tracing::warn!(limit, needed = descriptors::NEEDED, "few descriptors for connections");
        }
        Ok(limit) => tracing::info!(limit, "descriptors"),
        Err(error) => {
            let limit = descriptors::limit();
            tracing::warn!(%error, limit, "the limit of descriptors cannot be raised");
        }
    }
}

/// Logs every mistake in a line of its own.
pub(crate) fn refuse(program: Program, mistakes: &Mistakes) -> ExitCode {
    let (layer, _verbosity) = log::layer_of(program, LogLevel::Info, io::stdout, None);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || mistakes.log());
    ExitCode::FAILURE
}

fn print(to: &mut dyn Write, text: impl Display, code: ExitCode) -> ExitCode {
    match write!(to, "{text}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
