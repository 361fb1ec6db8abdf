// SPDX-License-Identifier: Apache-2.0

//! The end of a program.

use std::{error::Error, pin::pin, process::ExitCode};

use tokio_util::sync::CancellationToken;

use super::BoxError;
use crate::app::signals::{Ending, Termination};

/// The way in which a program has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its work is done.
    Done,
    /// It has failed.
    Failed(BoxError),
    /// A second signal came while it was ending.
    Interrupted(Ending),
}

impl Ended {
    /// Logs the reason of a failure; returns the exit code.
    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Failed(error) => {
                let error: &(dyn Error + 'static) = &*error;
                tracing::error!(critical = true, error, "fails");
                ExitCode::FAILURE
            }
            Self::Interrupted(signal) => {
                tracing::error!(critical = true, signal = signal.name, "ended before all was taken down");
                ExitCode::from(signal.exit_code())
            }
        }
    }
}

/// Runs `work`. The first signal asks it to stop, a second one abandons it.
pub(super) async fn until_ended(
    work: impl Future<Output = Result<(), BoxError>>,
    termination: &mut Termination,
    stop: &CancellationToken,
) -> Ended {
    let mut work = pin!(work);
    let ended = tokio::select! {
        biased;
        ended = &mut work => ended,
        signal = termination.received() => {
            tracing::info!(signal = signal.name, "going down");
            stop.cancel();
            tokio::select! {
                biased;
                ended = &mut work => ended,
                second = termination.received() => return Ended::Interrupted(second),
            }
        }
    };
    ended.map_or_else(Ended::Failed, |()| Ended::Done)
}
