// SPDX-License-Identifier: Apache-2.0

//! Watches one connection, and heals it when it is broken.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Doubt, Liveness, Settings, Verdict,
    control::{Lost, lost},
    liveness::Link,
    pace::{Flaps, Pauses},
    rules::{self, Action, Observation, Outcome},
};
use crate::{
    api::Connection,
    chain::{EventKind, Events, Reason},
    server::monitor::{self, Ours},
};

/// Time in which a silent link may answer again before it is made again.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that is watched.
pub(super) struct Watcher {
    answer: Connection,
    control: Option<(Ours, monitor::Events)>,
    liveness: Option<Arc<dyn Liveness>>,
    link: Option<Link>,
    flaps: Flaps,
    since: Instant,
    reselect_after: u32,
    keep_endpoint: bool,
    longest_pause: Duration,
}

/// The cause of a break.
enum Broken {
    /// The peers have lost the connection, or their stream has ended.
    Control(Lost),
    /// No traffic passes.
    Link,
}

impl Watcher {
    pub(super) fn new(
        answer: &Connection,
        control: Option<(Ours, monitor::Events)>,
        flaps: Flaps,
        settings: &Settings,
    ) -> Self {
        let Settings { liveness, reselect_after, keep_endpoint, longest_pause, .. } = settings.clone();
        let link = liveness.as_ref().map(|liveness| Link::new(liveness.watch(answer)));
        let answer = answer.clone();
        let since = Instant::now();
        Self { answer, control, liveness, link, flaps, since, reselect_after, keep_endpoint, longest_pause }
    }

    /// Watches, and heals until a Request has succeeded, which replaces this task.
    pub(super) async fn run(mut self, events: Events) {
        loop {
            let _doubt = match self.broken().await {
                Broken::Link if self.answers_again().await => continue,
                Broken::Link => {
                    tracing::warn!("no traffic passes over the link");
                    None
                }
                Broken::Control(Lost::Unheard(how)) => {
                    tracing::warn!(how, "the connection is broken");
                    None
                }
                Broken::Control(Lost::Reported(how)) => {
                    tracing::warn!(how, "the connection is broken");
                    self.doubt()
                }
            };
            return self.heal(events).await;
        }
    }

    /// Waits until one of the two watches finds the connection broken.
    async fn broken(&mut self) -> Broken {
        let control = async {
            match &mut self.control {
                Some((ours, events)) => lost(ours, events).await,
                None => std::future::pending().await,
            }
        };
        let dead = async {
            match &mut self.link {
                Some(link) => link.until(|verdict| verdict == Verdict::Dead).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { lost = control => Broken::Control(lost), () = dead => Broken::Link }
    }

    /// Gives a dead link time to answer again.
    async fn answers_again(&mut self) -> bool {
        match &mut self.link {
            Some(link) => {
                timeout(SILENCE_TIMEOUT, link.until(|verdict| verdict != Verdict::Dead)).await.is_ok()
            }
            None => false,
        }
    }

    fn doubt(&self) -> Option<Doubt> {
        self.liveness.as_ref().map(|liveness| liveness.doubt(&self.answer))
    }

    async fn heal(&mut self, events: Events) {
        sleep(self.flaps.pause(self.since)).await;
        let mut observation = Observation::default();
        let mut pauses = Pauses::new(self.longest_pause);
        loop {
            if let (Some(link), false) = (&mut self.link, observation.reselected) {
                observation.verdict = link.verdict(); // after a reselect the old link is gone
            }
            let action = rules::action(&observation, self.reselect_after, self.keep_endpoint);
            let attempt = match action {
                Action::Again => events.request(EventKind::Heal),
                Action::Reselect => events.reselect(EventKind::Heal, self.keep_endpoint),
            };
            let Err(error) = attempt.await else { return };
            if matches!(error.reason(), Reason::Ended) {
                return;
            }
            tracing::warn!(%error, ?action, "the connection could not be healed, trying again");
            observation.learn(&error);
            observation.reselected |= action == Action::Reselect;
            sleep(pauses.after(Outcome::of(&error), observation.verdict)).await;
        }
    }
}
