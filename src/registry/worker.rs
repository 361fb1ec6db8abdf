// SPDX-License-Identifier: Apache-2.0

//! Registers an endpoint, refreshes the registration, and registers again when it is lost.
//!
//! The registration is refreshed before it lapses. A watch on the own entry reports when the
//! registry, or the nsmgr before it, has forgotten the endpoint or has gone: then everything is
//! registered again, including the network service. Attempts always have a pause between them,
//! regardless of the registry's behaviour.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures::StreamExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{DEFAULT_LIFE, Error, Found, Offer, Registry, Settings, State, TokenPath, ensure, refresh_after};
use crate::{api::pb::registry::NetworkServiceEndpoint, chain::causes, task::Backoff};

/// Longest assumed lifetime of a registration, however long a registry promises.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

/// The task of a registration.
#[derive(Clone)]
pub(super) struct Worker<R> {
    registry: R,
    offer: Arc<Offer>,
    settings: Settings,
    last: Arc<Mutex<NextCall>>,
}

/// The content of the next call.
#[derive(Clone)]
struct NextCall {
    endpoint: NetworkServiceEndpoint,
    path: TokenPath,
    /// Whether a Register has gone out, so that there may be something to unregister.
    sent: bool,
}

/// The reason why a registration is repeated.
enum RenewReason {
    Due,
    Lost(String),
}

impl<R: Registry> Worker<R> {
    pub(super) fn new(registry: R, offer: Offer, settings: Settings) -> Self {
        let last = NextCall { endpoint: offer.endpoint.clone(), path: TokenPath::default(), sent: false };
        Self { registry, offer: Arc::new(offer), settings, last: Arc::new(Mutex::new(last)) }
    }

    /// Keeps the endpoint registered until dropped, or refused permanently.
    pub(super) async fn keep(self, state: watch::Sender<State>) {
        let mut failures = self.pauses();
        let mut losses = self.pauses();
        let mut found = None;
        let mut anew = true;
        loop {
            let left = match self.register(anew).await {
                Ok(left) => left,
                Err(error) => {
                    // A dial tries for as long as a call may take; when nsmgr listens again,
                    // targets wait for us.
                    let pause = match error {
                        Error::Dial(_) => self.settings.first_pause,
                        _ => failures.delay(),
                    };
                    if self.failed(error, &state) {
                        return;
                    }
                    anew = true;
                    sleep(pause).await;
                    continue;
                }
            };
            failures.reset();
            self.succeeded(left, &state);
            match self.hold(left, &mut found).await {
                RenewReason::Due => {
                    losses.reset();
                    anew = false;
                }
                RenewReason::Lost(why) => {
                    tracing::warn!(
                        name = self.offer.endpoint.name,
                        why,
                        "registration lost, registering anew"
                    );
                    self.lost(why, &state);
                    (found, anew) = (None, true);
                    sleep(losses.delay()).await;
                }
            }
        }
    }

    /// One attempt; returns the lifetime of the registration.
    async fn register(&self, anew: bool) -> Result<Duration, Error> {
        for service in self.offer.services.iter().filter(|_| anew) {
            ensure(&self.registry, service).await?;
        }
        let NextCall { endpoint, path, .. } = {
            let mut last = self.last();
            last.sent = true;
            // A path that failed is not sent again: the next attempt starts like the first.
            let path = std::mem::take(&mut last.path);
            NextCall { path, ..last.clone() }
        };
        let (answer, path) = self.registry.register(endpoint, self.socket(), path).await?;
        let mut last = self.last();
        last.path = path;
        last.endpoint.initial_registration_time = answer.initial_registration_time;
        let expires = answer.expiration_time.and_then(|time| SystemTime::try_from(time).ok());
        // An expiry that has already passed comes from a clock behind ours.
        Ok(expires.and_then(|time| time.duration_since(SystemTime::now()).ok()).unwrap_or(DEFAULT_LIFE))
    }

    /// Waits until the refresh is due, or the entry is gone, or the watch on it ends.
    async fn hold(&self, left: Duration, found: &mut Option<Found>) -> RenewReason {
        let Settings { deadline, margin, .. } = self.settings;
        let due = Instant::now() + refresh_after(left, deadline, margin);
        tokio::select! {
            biased;
            () = sleep_until(due) => RenewReason::Due,
            why = self.watch(found) => RenewReason::Lost(why),
        }
    }

    /// Watches the entry until it is lost; returns why.
    async fn watch(&self, found: &mut Option<Found>) -> String {
        if found.is_none() {
            let like =
                NetworkServiceEndpoint { name: self.offer.endpoint.name.clone(), ..Default::default() };
            match self.registry.find(like, true).await {
                Ok(new) => *found = Some(new),
                Err(error) => return causes(&error),
            }
            // Another nsmgr may run by now than the one that took the registration.
            match timeout(self.settings.shown, self.shown(found)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return why,
                Err(_) => return "the registry does not show the entry".into(),
            }
        }
        loop {
            if let Err(why) = self.shown(found).await {
                return why;
            }
        }
    }

    /// Waits until the watch lists the entry again, or reports that it is lost.
    async fn shown(&self, found: &mut Option<Found>) -> Result<(), String> {
        let Some(found) = found else { return Err("there is no watch".into()) };
        while let Some(event) = found.next().await {
            let event = event.map_err(|error| causes(&error))?;
            let ours = event.network_service_endpoint.filter(|entry| entry.name == self.offer.endpoint.name);
            match (ours, event.deleted) {
                (None, _) => {}
                (Some(_), false) => return Ok(()),
                (Some(_), true) => return Err("the registry deleted the entry".into()),
            }
        }
        Err("the watch ended".into())
    }

    fn succeeded(&self, left: Duration, state: &watch::Sender<State>) {
        let name = &self.offer.endpoint.name;
        if state.borrow().is_registered() {
            tracing::debug!(name, ?left, "registration refreshed");
        } else {
            tracing::info!(name, ?left, "registered");
        }
        let until = Instant::now() + left.min(LONGEST_LIFE);
        state.send_replace(State::Registered { until, failure: None });
    }

    /// Shows the loss until the registration is repeated: a dial of a peer that has gone takes as
    /// long as a call may.
    fn lost(&self, why: String, state: &watch::Sender<State>) {
        let next = state.borrow().after(Error::Lost(why));
        state.send_replace(next);
    }

    /// Reports a failure, and logs it as a warning if it is a new one. Returns whether it is final.
    fn failed(&self, error: Error, state: &watch::Sender<State>) -> bool {
        let name = &self.offer.endpoint.name;
        let text = causes(&error);
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

    pub(super) async fn unregister(&self) -> Result<(), Error> {
        let NextCall { endpoint, path, sent } = self.last().clone();
        if !sent {
            return Ok(());
        }
        let unregister = self.settings.unregister;
        let mut failures = self.pauses();
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

    fn pauses(&self) -> Backoff {
        Backoff::new(self.settings.first_pause, self.settings.longest_pause)
    }

    fn socket(&self) -> Option<&Path> {
        self.offer.socket.as_deref()
    }

    fn last(&self) -> MutexGuard<'_, NextCall> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
