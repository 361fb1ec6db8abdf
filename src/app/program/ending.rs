// SPDX-License-Identifier: Apache-2.0

//! The end of a program.

use std::{error::Error, io, pin::pin, process::ExitCode};

use tokio_util::sync::CancellationToken;

use super::BoxError;
use crate::app::signals::{Ending, Termination};

/// The reason why a program does not end in order.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Its signals cannot be caught.
    #[error("cannot start")]
    System(#[from] io::Error),
    /// Its work has failed.
    #[error(transparent)]
    Work(BoxError),
    /// A second signal came while it was ending. The rest is abandoned.
    #[error("ended by {} before all was taken down", .0.name)]
    Interrupted(Ending),
}

/// Logs the reason of a failure; returns the exit code.
pub(super) fn exit_code(program: &str, ended: Result<(), Failed>) -> ExitCode {
    let Err(failed) = ended else { return ExitCode::SUCCESS };
    let error: &(dyn Error + 'static) = &failed;
    tracing::error!(critical = true, error, "{program} fails");
    match failed {
        Failed::Interrupted(signal) => ExitCode::from(signal.exit_code()),
        Failed::System(_) | Failed::Work(_) => ExitCode::FAILURE,
    }
}

/// Runs `work`. The first signal asks it to stop, a second one abandons it. If the work has asked
/// for the stop itself, the first signal abandons it.
pub(super) async fn until_ended(
    work: impl Future<Output = Result<(), BoxError>>,
    termination: &mut Termination,
    stop: &CancellationToken,
) -> Result<(), Failed> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        ended = &mut work => return ended.map_err(Failed::Work),
        () = stop.cancelled() => {}
        signal = termination.received() => {
            tracing::info!(signal = signal.name, "going down");
            stop.cancel();
        }
    }
    tokio::select! {
        biased;
        ended = work => ended.map_err(Failed::Work),
        signal = termination.received() => Err(Failed::Interrupted(signal)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicU8, Ordering::SeqCst},
        },
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    fn kill() {
        use rustix::process::{Signal, getpid, kill_process};
        kill_process(getpid(), Signal::HUP).unwrap();
    }

    #[tokio::test]
    async fn a_second_signal_ends_the_shutdown_at_once() {
        let mut termination = Termination::catch().unwrap();
        let stop = CancellationToken::new();
        let hangs = async {
            kill();
            stop.cancelled().await;
            kill();
            pending().await
        };
        let ended = timeout(Duration::from_secs(5), until_ended(hangs, &mut termination, &stop)).await;
        let Ok(Err(Failed::Interrupted(signal))) = ended else { panic!("not interrupted") };
        assert_eq!((signal.name, signal.exit_code()), ("SIGHUP", 128 + 1));
        assert_eq!(exit_code("x", Err(Failed::Interrupted(signal))), ExitCode::from(129));

        // A program that takes itself down is interrupted by the first one.
        let hangs = async {
            stop.cancel();
            tokio::task::yield_now().await;
            kill();
            pending().await
        };
        let ended = timeout(Duration::from_secs(5), until_ended(hangs, &mut termination, &stop)).await;
        assert!(matches!(ended, Ok(Err(Failed::Interrupted(_)))));
    }

    #[tokio::test]
    async fn work_that_ends_decides_the_exit_code() {
        let mut termination = Termination::catch().unwrap();
        let steps = Arc::new(AtomicU8::new(0));
        let stop = CancellationToken::new();
        let drains = async {
            kill();
            stop.cancelled().await;
            steps.fetch_add(1, SeqCst);
            Ok(())
        };
        let ended = until_ended(drains, &mut termination, &stop).await;
        assert_eq!((exit_code("x", ended), steps.load(SeqCst)), (ExitCode::SUCCESS, 1));
        let fails = async { Err("no".into()) };
        let ended = until_ended(fails, &mut termination, &CancellationToken::new()).await;
        assert_eq!(ended.as_ref().unwrap_err().to_string(), "no");
        assert_eq!(exit_code("x", ended), ExitCode::FAILURE);
    }
}
