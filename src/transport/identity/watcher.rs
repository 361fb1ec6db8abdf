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

use super::{Standing, Svid, Trouble};
use crate::task::Backoff;

/// Timeout of the agent's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

type Answers = Pin<Box<dyn Stream<Item = Result<X509Context, WorkloadApiError>> + Send>>;

/// The task behind an [`Identity`](super::Identity).
pub(super) struct Watcher {
    socket: String,
    known: watch::Sender<Standing>,
    backoff: Backoff,
}

impl Watcher {
    pub(super) fn new(socket: &str, known: watch::Sender<Standing>) -> Self {
        Self { socket: socket.to_owned(), known, backoff: eager() }
    }

    /// Asks, takes answers while they come, and asks again. Does not return.
    pub(super) async fn run(mut self) {
        loop {
            let trouble = match timeout(ANSWER_TIMEOUT, ask(&self.socket)).await {
                Err(_elapsed) => Trouble::Silent,
                Ok(Err(error)) => match error.into() {
                    Trouble::Unreachable(why) => Trouble::Unreachable(format!("{}: {why}", self.socket)),
                    other => other,
                },
                Ok(Ok((first, answers))) => self.listen(first, answers).await,
            };
            self.report(trouble);
            self.pause().await;
        }
    }

    /// Takes answers until the stream ends or the SVID expires; returns which. An SVID that cannot
    /// be used is reported while there is another; without one, the agent is asked again.
    async fn listen(&mut self, first: X509Context, mut answers: Answers) -> Trouble {
        let mut answer = Ok(first);
        loop {
            match answer.map_err(Trouble::from).and_then(|context| Svid::new(&context).map_err(Trouble::from))
            {
                Ok(svid) => self.accept(svid),
                Err(trouble @ Trouble::Unusable(_)) if self.known.borrow().svid.is_some() => {
                    self.report(trouble)
                }
                Err(trouble) => return trouble,
            }
            answer = tokio::select! {
                next = answers.next() => match next {
                    Some(next) => next,
                    None => return Trouble::Unreachable("the stream ended".into()),
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
                    let trouble = self.expire();
                    self.report(trouble);
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
        self.known.send_replace(Standing { svid: Some(Arc::new(svid)), trouble: None });
    }

    fn expire(&mut self) -> Trouble {
        self.backoff = eager();
        self.known.send_modify(|standing| standing.svid = None);
        Trouble::Expired
    }

    /// Publishes a trouble, and logs it once for as long as it lasts.
    fn report(&self, trouble: Trouble) {
        let news = self.known.send_if_modified(|standing| {
            let news = standing.trouble.as_ref() != Some(&trouble);
            standing.trouble = Some(trouble.clone());
            news
        });
        match news {
            true => warn!(%trouble, "no newer SVID"),
            false => debug!(%trouble, "still no newer SVID"),
        }
    }
}

/// Delays while there is no SVID.
fn eager() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_millis(800))
}

/// Opens the stream and waits for its first answer.
async fn ask(socket: &str) -> Result<(X509Context, Answers), WorkloadApiError> {
    let client = WorkloadApiClient::connect_to(socket).await?;
    let mut answers: Answers = Box::pin(client.stream_x509_contexts().await?);
    let first = answers.next().await.ok_or(WorkloadApiError::EmptyResponse)??;
    Ok((first, answers))
}
