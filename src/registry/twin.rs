// SPDX-License-Identifier: Apache-2.0

//! A registry in memory, with faults, for tests without sockets. It keeps the contract of NSM's.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures::StreamExt;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use super::{Error, Found, Registry, TokenPath};
use crate::api::pb::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointResponse};

/// The call into which a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    RegisterService,
    Register,
    Unregister,
    Find,
}

#[derive(Clone, Default)]
pub(crate) struct Twin(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    life: Option<Duration>,
    /// Difference of the registry's clock from ours, and whether it is behind.
    clock: (Duration, bool),
    service: Option<NetworkService>,
    endpoints: BTreeMap<String, NetworkServiceEndpoint>,
    watches: Vec<(NetworkServiceEndpoint, mpsc::Sender<Result<NetworkServiceEndpointResponse, Error>>)>,
    faults: HashMap<Fault, Box<dyn Fn() -> Error + Send>>,
    calls: Vec<(Instant, String)>,
    forgets: usize,
}

impl Twin {
    /// Lets a call fail until mended.
    pub(crate) fn fail(&self, fault: Fault, error: impl Fn() -> Error + Send + 'static) {
        self.lock().faults.insert(fault, Box::new(error));
    }

    pub(crate) fn mend(&self) {
        self.lock().faults.clear();
    }

    /// Sets the lifetime of registrations from now on.
    pub(crate) fn life(&self, life: Duration) {
        self.lock().life = Some(life);
    }

    /// Sets how far the registry's clock is behind or ahead of ours.
    pub(crate) fn clock(&self, off: Duration, behind: bool) {
        self.lock().clock = (off, behind);
    }

    pub(crate) fn put_service(&self, service: Option<NetworkService>) {
        self.lock().service = service;
    }

    /// Adds or refreshes an endpoint, and notifies the watches.
    pub(crate) fn put(&self, endpoint: NetworkServiceEndpoint) {
        self.lock().endpoints.insert(endpoint.name.clone(), endpoint.clone());
        self.tell(endpoint, false);
    }

    /// Removes an endpoint and notifies the watches, as when it expires.
    pub(crate) fn lapse(&self, name: &str) {
        let gone = self.lock().endpoints.remove(name);
        gone.into_iter().for_each(|endpoint| self.tell(endpoint, true));
    }

    /// Removes an endpoint without notification.
    pub(crate) fn lose(&self, name: &str) {
        self.lock().endpoints.remove(name);
    }

    /// Ends the watches without an error.
    pub(crate) fn end_watches(&self) {
        self.lock().watches.clear();
    }

    /// Accepts the next endpoints, and forgets each at once, as after a restart at that moment.
    pub(crate) fn forget_next(&self, times: usize) {
        self.lock().forgets = times;
    }

    /// Forgets everything.
    pub(crate) fn restart(&self) {
        let mut inner = self.lock();
        (inner.endpoints, inner.service) = (BTreeMap::new(), None);
        inner.watches.clear();
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.lock().endpoints.contains_key(name)
    }

    pub(crate) fn watches(&self) -> usize {
        let mut inner = self.lock();
        inner.watches.retain(|(_, watch)| !watch.is_closed());
        inner.watches.len()
    }

    /// The calls so far, with seconds since `start`.
    pub(crate) fn calls(&self, start: Instant) -> Vec<(u64, String)> {
        self.lock().calls.iter().map(|(at, call)| ((*at - start).as_secs(), call.clone())).collect()
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.lock().calls.iter().filter(|(_, made)| made.starts_with(call)).count()
    }

    fn tell(&self, endpoint: NetworkServiceEndpoint, deleted: bool) {
        self.lock().watches.retain(|(like, watch)| {
            let event =
                NetworkServiceEndpointResponse { network_service_endpoint: Some(endpoint.clone()), deleted };
            !matches(like, &endpoint) || watch.try_send(Ok(event)).is_ok()
        });
    }

    fn call(&self, fault: Fault, what: String) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.calls.push((Instant::now(), what));
        inner.faults.get(&fault).map_or(Ok(()), |error| Err(error()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

fn matches(like: &NetworkServiceEndpoint, endpoint: &NetworkServiceEndpoint) -> bool {
    (like.name.is_empty() || like.name == endpoint.name)
        && like.network_service_names.iter().all(|name| endpoint.network_service_names.contains(name))
}

impl Registry for Twin {
    async fn register_service(&self, service: NetworkService) -> Result<(), Error> {
        self.call(Fault::RegisterService, format!("service {}", service.name))?;
        self.lock().service = Some(service);
        Ok(())
    }

    async fn find_service(&self, name: &str) -> Result<Option<NetworkService>, Error> {
        Ok(self.lock().service.clone().filter(|service| service.name == name))
    }

    async fn register(
        &self,
        mut endpoint: NetworkServiceEndpoint,
        _: Option<&Path>,
        mut path: TokenPath,
    ) -> Result<(NetworkServiceEndpoint, TokenPath), Error> {
        self.call(Fault::Register, format!("register {} path {}", endpoint.name, path.len()))?;
        let life = self.lock().life.unwrap_or(super::DEFAULT_LIFE);
        let (off, behind) = self.lock().clock;
        let now = if behind { SystemTime::now() - off } else { SystemTime::now() + off };
        endpoint.expiration_time = Some((now + life).into());
        endpoint.initial_registration_time.get_or_insert(now.into());
        let forgotten = {
            let mut inner = self.lock();
            let forgotten = inner.forgets > 0;
            inner.forgets = inner.forgets.saturating_sub(1);
            forgotten
        };
        if !forgotten {
            self.put(endpoint.clone());
        }
        path.enter("client".into(), "registry".into());
        Ok((endpoint, path))
    }

    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        _: Option<&Path>,
        path: TokenPath,
    ) -> Result<(), Error> {
        self.call(Fault::Unregister, format!("unregister {} path {}", endpoint.name, path.len()))?;
        self.lapse(&endpoint.name);
        Ok(())
    }

    async fn find(&self, like: NetworkServiceEndpoint, watch: bool) -> Result<Found, Error> {
        self.call(Fault::Find, format!("find watch={watch}"))?;
        let mut inner = self.lock();
        let found: Vec<_> =
            inner.endpoints.values().filter(|endpoint| matches(&like, endpoint)).cloned().collect();
        let event = |endpoint| NetworkServiceEndpointResponse {
            network_service_endpoint: Some(endpoint),
            deleted: false,
        };
        let now = futures::stream::iter(found.into_iter().map(move |endpoint| Ok(event(endpoint))));
        if !watch {
            return Ok(now.boxed());
        }
        let (sender, later) = mpsc::channel(10);
        inner.watches.push((like, sender));
        Ok(now.chain(ReceiverStream::new(later)).boxed())
    }
}
