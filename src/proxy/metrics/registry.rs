// SPDX-License-Identifier: Apache-2.0
//! The calls to the registry behind nsmgr.

use std::path::Path;

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tonic::Code;

use super::{Metrics, calls::Calls};
use crate::{
    api::pb::registry::{NetworkService, NetworkServiceEndpoint},
    registry::{Error, Found, Registry, TokenPath},
};

/// A registry whose calls are reported, each with its dial. Clones share the instruments.
#[derive(Clone, Debug)]
pub(crate) struct TimedRegistry<R> {
    inner: R,
    to: Option<Calls>,
}

impl<R> TimedRegistry<R> {
    /// Reports the calls of a registry, if there are metrics.
    pub(crate) fn new(inner: R, metrics: Option<&Metrics>) -> Self {
        Self { inner, to: metrics.map(|metrics| metrics.0.calls.clone()) }
    }

    fn call(&self, method: &'static str) -> Reported {
        Reported { to: self.to.clone(), method, began: Instant::now(), code: Code::Cancelled }
    }
}

impl<R: Registry> Registry for TimedRegistry<R> {
    async fn register_service(&self, service: NetworkService) -> Result<(), Error> {
        let call = self.call("registry.NetworkServiceRegistry/Register");
        call.end(self.inner.register_service(service).await)
    }

    async fn find_service(&self, name: &str) -> Result<Option<NetworkService>, Error> {
        let call = self.call("registry.NetworkServiceRegistry/Find");
        call.end(self.inner.find_service(name).await)
    }

    async fn register(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(NetworkServiceEndpoint, TokenPath), Error> {
        let call = self.call("registry.NetworkServiceEndpointRegistry/Register");
        call.end(self.inner.register(endpoint, socket, path).await)
    }

    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(), Error> {
        let call = self.call("registry.NetworkServiceEndpointRegistry/Unregister");
        call.end(self.inner.unregister(endpoint, socket, path).await)
    }

    /// The call ends with the first answer of the stream: a watch stays open for hours.
    async fn find(&self, like: NetworkServiceEndpoint, watch: bool) -> Result<Found, Error> {
        let call = self.call("registry.NetworkServiceEndpointRegistry/Find");
        let mut found = match self.inner.find(like, watch).await {
            Ok(found) => found,
            Err(error) => return call.end(Err(error)),
        };
        let first = async move {
            let first = found.next().await;
            let first = first.map(|answer| call.end(answer));
            stream::iter(first).chain(found)
        };
        Ok(stream::once(first).flatten().boxed())
    }
}

/// Reports a call when it is dropped, so that a cancelled one is reported too.
struct Reported {
    to: Option<Calls>,
    method: &'static str,
    began: Instant,
    code: Code,
}

impl Reported {
    fn end<T>(mut self, answer: Result<T, Error>) -> Result<T, Error> {
        self.code = match &answer {
            Ok(_) => Code::Ok,
            Err(Error::Status(status)) => status.code(),
            Err(Error::Dial(_)) => Code::Unavailable,
            Err(Error::Deadline(_)) => Code::DeadlineExceeded,
            Err(_) => Code::Unknown,
        };
        answer
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        if let Some(to) = &self.to {
            to.made(self.method.into(), self.began.elapsed(), self.code);
        }
    }
}
