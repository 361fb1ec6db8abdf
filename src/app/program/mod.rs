// SPDX-License-Identifier: Apache-2.0

//! A program: configuration, identity, log, spans, signals, and an end in order.

mod ending;
mod settings;

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use tokio::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::prelude::*;

use self::{
    ending::{Ended, until_ended},
    settings::Settings,
};
use super::{
    Client, Endpoint, client,
    config::{Asked, Env, Mistakes, asked},
    endpoint,
    log::{self, LogLevel, Program, Verbosity},
    signals::Termination,
    telemetry::Telemetry,
};
use crate::{
    task::Tasks,
    transport::{Address, Identity, descriptors},
};

/// Time for the remaining tasks at the end, and for the last spans.
const FLUSH: Duration = Duration::from_secs(1);

/// The error of a program's own part.
type BoxError = Box<dyn Error + Send + Sync>;

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
    identity: Identity,
    tasks: Tasks,
    stop: CancellationToken,
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
        match (asked(), config) {
            (Asked::Run, Ok((settings, config))) => start(program, settings, config, main).await,
            (Asked::Run, Err(mistakes)) => refuse(program, &mistakes),
            (Asked::Help, _) => print(&mut io::stdout(), help, ExitCode::SUCCESS),
            (Asked::Unknown(argument), _) => {
                let text = format!("{program}: argument {argument:?} is not accepted (accepted: --help)\n");
                print(&mut io::stderr(), text, ExitCode::from(2))
            }
        }
    }

    /// The name of the pod, `NSM_NAME`.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The identity, which follows the SPIFFE Workload API.
    pub fn identity(&self) -> &Identity {
        &self.identity
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

    /// Begins an endpoint of this name and identity, which is registered with nsmgr.
    pub fn endpoint(&self) -> endpoint::Builder {
        Endpoint::builder(self.name(), self.identity.clone(), &self.tasks)
            .register_with(self.nsmgr())
            .token_lifetime(self.settings.token_lifetime)
    }

    /// Begins a client of this name and identity, which calls nsmgr.
    pub fn client(&self) -> client::Builder {
        Client::builder(self.name(), self.identity.clone(), self.nsmgr(), &self.tasks)
            .token_lifetime(self.settings.token_lifetime)
    }
}

async fn start<C>(
    program: &'static str,
    settings: Settings,
    config: C,
    main: impl AsyncFnOnce(App, C) -> Result<(), BoxError>,
) -> ExitCode {
    let to = settings.telemetry.as_ref();
    let telemetry = to.map(|to| Telemetry::start_as((program, program), &settings.name, to)).transpose();
    let (telemetry, unexported) = telemetry.map_or_else(|e| (None, Some(e)), |t| (t, None));
    let own = Program { service: program, own: program };
    let (lines, verbosity) = log::layer_of(own, settings.log_level, io::stdout, None);
    let spans = telemetry.as_ref().map(Telemetry::layer);
    if let Err(error) = tracing_subscriber::registry().with(lines).with(spans).try_init() {
        return print(&mut io::stderr(), format!("{program}: {error}\n"), ExitCode::FAILURE);
    }
    tracing::info!(name = settings.name, nsmgr = %settings.nsmgr, "starts");
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if let Some(error) = &unexported {
        tracing::warn!(error = error as &(dyn Error + 'static), "no spans are exported");
    }
    if let Err(error) = descriptors::raise() {
        tracing::warn!(%error, "the limit of descriptors cannot be raised");
    }
    let ended = live(&verbosity, settings, config, main).await;
    if let Some(telemetry) = telemetry {
        telemetry.stop(FLUSH).await;
    }
    ended.exit_code()
}

async fn live<C>(
    verbosity: &Verbosity,
    settings: Settings,
    config: C,
    main: impl AsyncFnOnce(App, C) -> Result<(), BoxError>,
) -> Ended {
    let tasks = Tasks::default();
    let (mut termination, levels) =
        match Termination::catch().and_then(|t| Ok((t, verbosity.follow_signals()?))) {
            Ok(caught) => caught,
            Err(error) => return Ended::Failed(error.into()),
        };
    tasks.spawn(levels);
    let identity = Identity::follow(&settings.agent, &tasks);
    let app = App { settings, identity, tasks: tasks.clone(), stop: CancellationToken::new() };
    let stop = app.stop.clone();
    let ended = until_ended(main(app, config), &mut termination, &stop).await;
    if !matches!(ended, Ended::Interrupted(_)) && tokio::time::timeout(FLUSH, tasks.stop()).await.is_err() {
        tracing::warn!(tasks = tasks.len(), "not every task has ended");
    }
    ended
}

/// Logs every mistake in a line of its own.
fn refuse(program: &'static str, mistakes: &Mistakes) -> ExitCode {
    let own = Program { service: program, own: program };
    let (layer, _verbosity) = log::layer_of(own, LogLevel::Info, io::stdout, None);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || mistakes.log());
    ExitCode::FAILURE
}

fn print(to: &mut dyn Write, text: impl Display, code: ExitCode) -> ExitCode {
    match write!(to, "{text}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
