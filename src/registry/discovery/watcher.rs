// SPDX-License-Identifier: Apache-2.0

//! Keeps a watch open and reads complete lists beside it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, TryStreamExt};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    CompleteList, Dead, Discovered, Settings,
    rules::{EndpointSet, Now},
};
use crate::{
    api::pb::registry::NetworkServiceEndpoint,
    chain::causes,
    registry::{Error, Registry},
    task::Backoff,
};

pub(super) struct Watcher<R> {
    registry: R,
    service: String,
    dead: Dead,
    settings: Settings,
    state: Mutex<EndpointSet>,
    known: watch::Sender<Discovered>,
    lists: watch::Sender<Option<CompleteList>>,
    /// A watch has ended: read a list now.
    look: Notify,
}

impl<R: Registry> Watcher<R> {
    pub(super) fn new(
        registry: R,
        service: &str,
        dead: Dead,
        settings: Settings,
        (known, lists): (watch::Sender<Discovered>, watch::Sender<Option<CompleteList>>),
    ) -> Self {
        let state = Mutex::new(EndpointSet::new(settings.rules));
        let service = service.to_owned();
        let look = Notify::new();
        Self { registry, service, dead, settings, state, known, lists, look }
    }

    /// Follows until dropped.
    pub(super) async fn follow(self) {
        tokio::join!(self.watch(), self.look());
    }

    /// Keeps a watch open. Its events are read as they arrive, so that the registry never waits for
    /// us.
    async fn watch(&self) {
        let Settings { first_pause, longest_pause, good, .. } = self.settings;
        let mut pauses = Backoff::new(first_pause, longest_pause);
        loop {
            let opened = Instant::now();
            let ended = self.watch_once().await;
            tracing::debug!(service = self.service, ended, "watch ended, opening it again");
            if opened.elapsed() >= good {
                pauses.reset();
            }
            self.look.notify_one();
            sleep(pauses.delay()).await;
        }
    }

    /// Takes the events of one watch; returns why it ended.
    async fn watch_once(&self) -> String {
        let mut found = match self.registry.find(self.like(), true).await {
            Ok(found) => found,
            Err(error) => return causes(&error),
        };
        while let Some(event) = found.next().await {
            match event {
                Ok(event) => {
                    if let Some(endpoint) = event.network_service_endpoint {
                        self.state().report(endpoint, event.deleted, Now::read());
                        self.show(|_| {});
                    }
                }
                Err(error) => return causes(&error),
            }
        }
        "without an error".to_owned()
    }

    /// Reads complete lists.
    async fn look(&self) {
        let Settings { interval, first_pause, longest_pause, .. } = self.settings;
        let mut pauses = Backoff::new(first_pause, longest_pause);
        loop {
            let asked = Instant::now();
            match self.list().await {
                Ok((found, complete)) => {
                    pauses.reset();
                    let names = found.iter().map(|endpoint| endpoint.name.clone()).collect();
                    if complete && !found.is_empty() {
                        self.lists.send_replace(Some(CompleteList { asked, names }));
                    }
                    self.state().list(found, complete, Now::read(), &*self.dead);
                    self.show(|known| (known.complete, known.failure) = (true, None));
                    let _at_once_or_in_time = timeout(interval, self.look.notified()).await;
                }
                Err(error) => {
                    let text = causes(&error);
                    if self.known.borrow().failure.as_ref() != Some(&text) {
                        tracing::warn!(
                            service = self.service,
                            error = text,
                            "endpoints not found, keeping those known"
                        );
                    }
                    self.state().interrupt();
                    self.show(|known| known.failure = Some(text));
                    sleep(pauses.delay()).await;
                }
            }
        }
    }

    /// All present endpoints, and whether the list is complete: entries beyond the rules are not
    /// read.
    async fn list(&self) -> Result<(Vec<NetworkServiceEndpoint>, bool), Error> {
        self.state().ask();
        let limit = self.settings.rules.endpoints;
        let found = self.registry.find(self.like(), false).await?;
        let mut found: Vec<_> = found.take(limit + 1).try_collect().await?;
        let complete = found.len() <= limit;
        found.retain(|response| !response.deleted);
        Ok((found.into_iter().filter_map(|response| response.network_service_endpoint).collect(), complete))
    }

    /// Publishes the state if it has changed.
    fn show(&self, change: impl FnOnce(&mut Discovered)) {
        let state = self.state();
        let endpoints = state.endpoints();
        let left_out = state.left_out();
        let aside: BTreeSet<String> = state.aside().map(str::to_owned).collect();
        drop(state);
        self.known.send_if_modified(|known| {
            let before = known.clone();
            change(known);
            if *known.endpoints != endpoints {
                tell(&self.service, &before, &endpoints, left_out);
                known.endpoints = Arc::new(endpoints);
            }
            if known.aside != aside {
                let new: Vec<_> = aside.difference(&known.aside).collect();
                tracing::info!(
                    service = self.service,
                    ?new,
                    "the registry shows endpoints that expired long ago: not taken until they are registered again"
                );
                known.aside = aside;
            }
            *known != before
        });
    }

    fn like(&self) -> NetworkServiceEndpoint {
        let network_service_names = vec![self.service.clone()];
        NetworkServiceEndpoint { network_service_names, ..NetworkServiceEndpoint::default() }
    }

    fn state(&self) -> MutexGuard<'_, EndpointSet> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(service: &str, before: &Discovered, after: &super::Endpoints, left_out: u64) {
    let added: Vec<_> = after.keys().filter(|name| !before.endpoints.contains_key(*name)).collect();
    let removed: Vec<_> = before.endpoints.keys().filter(|name| !after.contains_key(*name)).collect();
    tracing::info!(service, ?added, ?removed, known = after.len(), left_out, "endpoints changed");
}
