// SPDX-License-Identifier: Apache-2.0

//! Keep an endpoint registered.
//!
//! The registration is refreshed before it lapses. A watch on the own entry tells when the registry, or the nsmgr before it, has
//! forgotten the endpoint or has gone: then everything is registered anew, the network service too. Attempts never follow each
//! other without a pause, whatever the registry does.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures::StreamExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Client, DEFAULT_LIFE, Error, Found, Registry, State, TokenPath, ensure, refresh_after};
use crate::{
    api::pb::registry::{NetworkService, NetworkServiceEndpoint},
    transport::{Backoff, causes},
};

/// Time for a new watch to show the entry that was just registered.
const SHOWN: Duration = Duration::from_secs(2);

/// What to register.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The network service, registered before the endpoint and never unregistered; `None` if somebody else sees to it.
    pub service: Option<NetworkService>,
    /// The endpoint: its name, the names of its network services, its labels for each. Without an expiration the registry's
    /// default lifetime counts.
    pub endpoint: NetworkServiceEndpoint,
    /// The unix socket on which the endpoint listens. `None` registers the endpoint's own URL.
    pub socket: Option<PathBuf>,
}

/// Times of a registration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Deadline that [`Client`] gives a Register: nsmgr drops the entry this long before it lapses.
    pub deadline: Duration,
    /// Time between the refresh and that moment, for attempts that fail.
    pub margin: Duration,
    /// First pause after a failure. Each further one is twice as long, with jitter.
    pub first_pause: Duration,
    /// Longest pause. A restarted nsmgr has us back this long after it listens, at the latest.
    pub longest_pause: Duration,
    /// Time for [`Registration::unregister`].
    pub unregister: Duration,
}

impl Default for Settings {
    /// 5 s for a call, 5 s of margin; pauses of 0.2 to 2 s; 3 s to unregister.
    fn default() -> Self {
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        Self { deadline: s(5), margin: s(5), first_pause: ms(200), longest_pause: s(2), unregister: s(3) }
    }
}

/// An endpoint that is kept registered for as long as this lives. Dropping it lets the registration lapse;
/// [`unregister`](Self::unregister) ends it.
pub struct Registration<R: Registry = Client> {
    keeper: Keeper<R>,
    state: watch::Receiver<State>,
    task: AbortOnDropHandle<()>,
}

impl<R: Registry> Registration<R> {
    /// Start registering.
    pub fn start(registry: R, offer: Offer, settings: Settings) -> Self {
        let (sender, state) = watch::channel(State::default());
        let last = Last { endpoint: offer.endpoint.clone(), path: TokenPath::default(), sent: false };
        let keeper = Keeper { registry, offer: Arc::new(offer), settings, last: Arc::new(Mutex::new(last)) };
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.clone().keep(sender)));
        Self { keeper, state, task }
    }

    /// How the registration stands, and every change of that.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Stop refreshing and unregister the endpoint, with retries, within [`Settings::unregister`]. The network service stays.
    ///
    /// # Errors
    /// What the last attempt met. The entry then lapses by itself.
    pub async fn unregister(self) -> Result<(), Error> {
        let Self { keeper, task, .. } = self;
        task.abort();
        let _aborted = task.await;
        keeper.unregister().await
    }
}

#[derive(Clone)]
struct Keeper<R> {
    registry: R,
    offer: Arc<Offer>,
    settings: Settings,
    last: Arc<Mutex<Last>>,
}

/// What the next call sends.
#[derive(Clone)]
struct Last {
    endpoint: NetworkServiceEndpoint,
    path: TokenPath,
    /// Whether a Register has gone out, so that there may be something to unregister.
    sent: bool,
}

/// Why a registration is done again.
enum Again {
    Due,
    Lost(String),
}

impl<R: Registry> Keeper<R> {
    async fn keep(self, state: watch::Sender<State>) {
        let Settings { first_pause, longest_pause, .. } = self.settings;
        let mut failures = Backoff::new(first_pause, longest_pause);
        let mut losses = failures.clone();
        let (mut found, mut anew) = (None, true);
        loop {
            match self.register(anew).await {
                Ok(left) => {
                    failures.reset();
                    self.succeeded(left, &state);
                    match self.hold(left, &mut found).await {
                        Again::Due => {
                            losses.reset();
                            anew = false;
                        }
                        Again::Lost(why) => {
                            tracing::warn!(
                                name = self.offer.endpoint.name,
                                why,
                                "registration lost, registering anew"
                            );
                            (found, anew) = (None, true);
                            sleep(losses.delay()).await;
                        }
                    }
                }
                Err(error) => {
                    anew = true;
                    if self.failed(error, &state) {
                        return;
                    }
                    sleep(failures.delay()).await;
                }
            }
        }
    }

    /// One attempt; the time that the registration then lasts.
    async fn register(&self, anew: bool) -> Result<Duration, Error> {
        if let (true, Some(service)) = (anew, &self.offer.service) {
            ensure(&self.registry, service).await?;
        }
        let Last { endpoint, path, .. } = {
            let mut last = self.last();
            last.sent = true;
            // A path that did not work is not sent again: the next attempt starts like the first.
            let path = std::mem::take(&mut last.path);
            Last { path, ..last.clone() }
        };
        let (answer, path) = self.registry.register(endpoint, self.socket(), path).await?;
        let mut last = self.last();
        last.path = path;
        last.endpoint.initial_registration_time = answer.initial_registration_time;
        let expires = answer.expiration_time.and_then(|time| SystemTime::try_from(time).ok());
        let left = expires.map(|time| time.duration_since(SystemTime::now()).unwrap_or_default());
        Ok(left.unwrap_or(DEFAULT_LIFE))
    }

    /// Wait until the refresh is due, or the entry is gone, or the watch on it ends.
    async fn hold(&self, left: Duration, found: &mut Option<Found>) -> Again {
        let Settings { deadline, margin, .. } = self.settings;
        let due = Instant::now() + refresh_after(left, deadline, margin);
        let watching = async {
            let name = &self.offer.endpoint.name;
            // A new watch begins with what there is. Behind an nsmgr that restarted since the Register, that is nothing.
            let mut shown = found.is_some();
            let found = match found {
                Some(found) => found,
                None => {
                    let like = NetworkServiceEndpoint { name: name.clone(), ..Default::default() };
                    match self.registry.find(like, true).await {
                        Ok(new) => found.insert(new),
                        Err(error) => return Again::Lost(causes(&error)),
                    }
                }
            };
            let by = Instant::now() + SHOWN;
            loop {
                let event = if shown { Ok(found.next().await) } else { timeout_at(by, found.next()).await };
                match event {
                    Ok(Some(Ok(event))) => {
                        let ours = event.network_service_endpoint.is_some_and(|entry| entry.name == *name);
                        if ours && event.deleted {
                            return Again::Lost("the registry deleted the entry".into());
                        }
                        shown |= ours;
                    }
                    Ok(Some(Err(error))) => return Again::Lost(causes(&error)),
                    Ok(None) => return Again::Lost("the watch ended".into()),
                    Err(_) => return Again::Lost("the registry does not have the entry".into()),
                }
            }
        };
        tokio::select! {
            biased;
            () = sleep_until(due) => Again::Due,
            again = watching => again,
        }
    }

    fn succeeded(&self, left: Duration, state: &watch::Sender<State>) {
        let name = &self.offer.endpoint.name;
        if state.borrow().is_registered() {
            tracing::debug!(name, ?left, "registration refreshed");
        } else {
            tracing::info!(name, ?left, "registered");
        }
        let until = Instant::now() + left.min(super::LONGEST);
        state.send_replace(State::Registered { until, failure: None });
    }

    /// Tell of a failure, aloud if it is a new one. Returns whether it is final.
    fn failed(&self, error: Error, state: &watch::Sender<State>) -> bool {
        let (name, text) = (&self.offer.endpoint.name, causes(&error));
        let next = state.borrow().after(error);
        let known = state.borrow().failure().is_some_and(|last| causes(&**last) == text);
        let refused = matches!(next, State::Refused(_));
        match (refused, known) {
            (true, _) => tracing::error!(name, error = text, "registration refused"),
            (false, false) => tracing::warn!(name, error = text, "registration failed, trying again"),
            (false, true) => tracing::debug!(name, error = text, "registration failed again"),
        }
        state.send_replace(next);
        refused
    }

    async fn unregister(&self) -> Result<(), Error> {
        let Last { endpoint, path, sent } = self.last().clone();
        if !sent {
            return Ok(());
        }
        let Settings { unregister, first_pause, longest_pause, .. } = self.settings;
        let mut failures = Backoff::new(first_pause, longest_pause);
        let mut last = Error::Deadline(unregister);
        let attempts = async {
            while let Err(error) =
                self.registry.unregister(endpoint.clone(), self.socket(), path.clone()).await
            {
                last = error;
                sleep(failures.delay()).await;
            }
        };
        match timeout(unregister, attempts).await {
            Ok(()) => Ok(()),
            Err(_) => Err(last),
        }
    }

    fn socket(&self) -> Option<&Path> {
        self.offer.socket.as_deref()
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
