// SPDX-License-Identifier: Apache-2.0

//! Follows the Workload API: asks until there is an SVID, then takes every rotation.
//!
//! The agent refuses while the workload has no entry yet; it is asked again within a second until
//! the first SVID exists, so that a start waits no longer than the entry. Later failures are
//! retried with a growing delay, and the SVID stays in use until it expires.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{IdentityState, Svid, SvidError};
use crate::task::Backoff;

/// Timeout of the agent's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

type SvidStream = Pin<Box<dyn Stream<Item = Result<X509Context, WorkloadApiError>> + Send>>;

/// The task behind an [`Identity`](super::Identity).
pub(super) struct Watcher {
    socket: String,
    known: watch::Sender<IdentityState>,
    backoff: Backoff,
}

impl Watcher {
    pub(super) fn new(socket: &str, known: watch::Sender<IdentityState>) -> Self {
        Self { socket: socket.to_owned(), known, backoff: eager() }
    }

    /// Asks, takes answers while they come, and asks again. Does not return.
    pub(super) async fn run(mut self) {
        loop {
            let error = match timeout(ANSWER_TIMEOUT, ask(&self.socket)).await {
                Err(_elapsed) => SvidError::Silent,
                Ok(Err(error)) => match error.into() {
                    SvidError::Unreachable(why) => SvidError::Unreachable(format!("{}: {why}", self.socket)),
                    other => other,
                },
                Ok(Ok((first, answers))) => self.listen(first, answers).await,
            };
            self.report(error);
            self.pause().await;
        }
    }

    /// Takes answers until the stream ends or the SVID expires; returns which. An SVID that cannot
    /// be used is reported while there is another; without one, the agent is asked again.
    async fn listen(&mut self, first: X509Context, mut answers: SvidStream) -> SvidError {
        let mut answer = Ok(first);
        loop {
            match answer
                .map_err(SvidError::from)
                .and_then(|context| Svid::new(&context).map_err(SvidError::from))
            {
                Ok(svid) => self.accept(svid),
                Err(error @ SvidError::Unusable(_)) if self.known.borrow().svid.is_some() => {
                    self.report(error)
                }
                Err(error) => return error,
            }
            answer = tokio::select! {
                next = answers.next() => match next {
                    Some(next) => next,
                    None => return SvidError::Unreachable("the stream ended".into()),
                },
                () = self.expiry() => return self.expire(),
            }
        }
    }

    /// Waits before asking again; an SVID that expires meanwhile is reported at that moment.
    async fn pause(&mut self) {
        let mut pause = pin!(sleep(self.backoff.delay()));
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = self.expiry() => {
                    let error = self.expire();
                    self.report(error);
                }
            }
        }
    }

    /// Completes when the SVID expires; never if there is none.
    fn expiry(&self) -> impl Future<Output = ()> + use<> {
        let svid = self.known.borrow().svid.clone();
        async move {
            match svid {
                Some(svid) => sleep(svid.left(SystemTime::now()).unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        }
    }

    fn accept(&mut self, svid: Svid) {
        info!(id = svid.id(), serial = svid.serial(), "new SVID");
        self.backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        self.known.send_replace(IdentityState { svid: Some(Arc::new(svid)), error: None });
    }

    fn expire(&mut self) -> SvidError {
        self.backoff = eager();
        self.known.send_modify(|state| state.svid = None);
        SvidError::Expired
    }

    /// Publishes an error, and logs it once for as long as it lasts.
    fn report(&self, error: SvidError) {
        let changed = self.known.send_if_modified(|state| {
            let changed = state.error.as_ref() != Some(&error);
            state.error = Some(error.clone());
            changed
        });
        match changed {
            true => warn!(%error, "no newer SVID"),
            false => debug!(%error, "still no newer SVID"),
        }
    }
}

/// Delays while there is no SVID.
fn eager() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_millis(800))
}

/// Opens the stream and waits for its first answer.
async fn ask(socket: &str) -> Result<(X509Context, SvidStream), WorkloadApiError> {
    let client = WorkloadApiClient::connect_to(socket).await?;
    let mut answers: SvidStream = Box::pin(client.stream_x509_contexts().await?);
    let first = answers.next().await.ok_or(WorkloadApiError::EmptyResponse)??;
    Ok((first, answers))
}
