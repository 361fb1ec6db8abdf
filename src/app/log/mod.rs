// SPDX-License-Identifier: Apache-2.0
//! Logs as Meridio does: JSON lines, a level from the configuration, SIGUSR2 for TRACE and SIGUSR1
//! back.
//!
//! Other crates are logged only at WARN, at TRACE also at INFO, and never below: h2 prints the
//! headers of a call at DEBUG, and those contain tokens.

mod events;
mod fields;
mod level;
mod line;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::{Context, Filter},
    registry::LookupSpan,
};

pub(crate) use self::events::Events;
#[cfg(feature = "proxy")]
pub(crate) use self::{events::Event, line::timestamp};
pub use self::{
    level::LogLevel,
    line::{CRITICAL, JsonLines},
};
use super::program::Program;

/// The layer that logs, and the switch for its level. `program` is the crate of the program: it is
/// in every line, and its events and spans are logged like those of this crate.
pub fn layer<S, W>(
    program: &'static str,
    level: LogLevel,
    writer: W,
) -> (impl Layer<S> + Send + Sync, Verbosity)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    layer_of(Program::new(program), level, writer, None)
}

/// The same for a program of several names; also notes the last lines from INFO up in `events`.
pub(crate) fn layer_of<S, W>(
    program: Program,
    level: LogLevel,
    writer: W,
    events: Option<Events>,
) -> (impl Layer<S> + Send + Sync, Verbosity)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let verbosity = Verbosity::new(program.own, level);
    let lines = JsonLines::new(program.logged, writer).noting(events);
    (lines.with_filter(verbosity.clone()), verbosity)
}

/// The current level of the log. Clones share it.
#[derive(Clone, Debug)]
pub struct Verbosity {
    configured: LogLevel,
    current: Arc<AtomicU8>,
    own: &'static str,
}

impl Verbosity {
    /// Starts at the configured level. `program` is the crate of the program.
    pub fn new(program: &'static str, configured: LogLevel) -> Self {
        Self { configured, current: Arc::new(AtomicU8::new(configured as u8)), own: program }
    }

    /// The level in effect.
    pub fn level(&self) -> LogLevel {
        let current = self.current.load(Ordering::Relaxed);
        LogLevel::ALL.into_iter().find(|level| *level as u8 == current).unwrap_or(self.configured)
    }

    /// The level of the configuration.
    pub fn configured(&self) -> LogLevel {
        self.configured
    }

    /// Changes the level.
    pub fn set(&self, level: LogLevel) {
        self.current.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Switches to TRACE on SIGUSR2 and back on SIGUSR1, until dropped. The signals are caught from
    /// this call on.
    ///
    /// # Errors
    /// The signals cannot be caught. The caller must not continue, because they would end the
    /// process.
    pub fn follow_signals(&self) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let mut back = signal(SignalKind::user_defined1())?;
        let mut trace = signal(SignalKind::user_defined2())?;
        let switch = self.clone();
        Ok(async move {
            loop {
                let level = tokio::select! {
                    _ = back.recv() => switch.configured,
                    _ = trace.recv() => LogLevel::Trace,
                };
                switch.set(level);
                tracing::info!(level = level.name(), "log level set by signal");
            }
        })
    }

    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        let most = match (origin(metadata, self.own), self.level()) {
            (Source::Own, level) => most(level),
            (Source::Row, LogLevel::Trace) => LevelFilter::TRACE,
            (Source::Foreign, LogLevel::Trace) => LevelFilter::INFO,
            (Source::Foreign, _) => LevelFilter::WARN,
            (Source::Row, _) | (Source::Exporter, _) => LevelFilter::OFF,
        };
        *metadata.level() <= most
    }
}

/// The origin of an event or span.
enum Source {
    Own,
    /// The span of one row of a chain: it has no fields that a line would show.
    Row,
    /// The OpenTelemetry SDK, whose failures [`telemetry`](super::telemetry) reports at a bounded
    /// rate.
    Exporter,
    Foreign,
}

fn origin(metadata: &Metadata<'_>, own: &str) -> Source {
    match metadata.target().split("::").next() {
        Some("nsm") if metadata.is_span() && metadata.name() == "row" => Source::Row,
        Some(name) if name == "nsm" || name == own => Source::Own,
        Some(name) if name.starts_with("opentelemetry") => Source::Exporter,
        _ => Source::Foreign,
    }
}

const fn most(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

impl<S> Filter<S> for Verbosity {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.admits(metadata)
    }

    /// Cached by tracing until [`Verbosity::set`] rebuilds the cache.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.admits(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(most(self.level()))
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;
    use crate::testing::Lines;

    /// Number of lines written for one event of each level and source, and for a row's span.
    fn written(level: LogLevel, trace: bool) -> [bool; 7] {
        let lines = Lines::default();
        let (layer, verbosity) = layer("own", level, lines.clone());
        let mut seen = Vec::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            verbosity.set(if trace { LogLevel::Trace } else { level });
            let mut note = |event: &dyn Fn()| {
                let before = lines.all().len();
                event();
                seen.push(lines.all().len() > before);
            };
            note(&|| tracing::info!(target: "nsm::a", "x"));
            note(&|| tracing::debug!(target: "nsm::a", "x"));
            note(&|| tracing::trace!(target: "nsm::a", "x"));
            note(&|| tracing::warn!(target: "h2", "x"));
            note(&|| tracing::info!(target: "h2", "x"));
            note(&|| tracing::debug!(target: "h2", "header: nsm-client-token"));
            note(&|| tracing::error!(target: "opentelemetry_sdk", "x"));
        });
        seen.try_into().unwrap()
    }

    #[test]
    fn levels_admit_their_events_and_never_headers_of_calls() {
        let y = true;
        let n = false;
        assert_eq!(written(LogLevel::Info, false), [y, n, n, y, n, n, n]);
        assert_eq!(written(LogLevel::Debug, false), [y, y, n, y, n, n, n]);
        assert_eq!(written(LogLevel::Trace, false), [y, y, y, y, y, n, n]);
        assert_eq!(written(LogLevel::Info, true), [y, y, y, y, y, n, n]);
    }

    #[test]
    fn rows_of_chains_open_spans_for_the_log_only_at_trace() {
        let (layer, verbosity) = layer("own", LogLevel::Debug, io::sink);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let row = || tracing::debug_span!(target: "nsm::chain::element", "row");
            assert!(row().is_disabled());
            verbosity.set(LogLevel::Trace);
            assert!(!row().is_disabled());
            verbosity.set(LogLevel::Debug);
            assert!(row().is_disabled());
        });
    }

    #[tokio::test]
    async fn sigusr2_switches_to_trace_and_sigusr1_back() {
        let (_layer, verbosity) = layer::<tracing_subscriber::Registry, _>("own", LogLevel::Info, io::sink);
        let tasks = crate::task::Tasks::default();
        tasks.spawn(verbosity.follow_signals().unwrap());
        let own = rustix::process::getpid();
        for (signal, level) in [
            (rustix::process::Signal::USR2, LogLevel::Trace),
            (rustix::process::Signal::USR1, LogLevel::Info),
        ] {
            rustix::process::kill_process(own, signal).unwrap();
            for _ in 0..500 {
                if verbosity.level() == level {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            assert_eq!(verbosity.level(), level, "after {signal:?}");
        }
        tasks.stop().await;
    }
}
