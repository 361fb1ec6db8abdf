// SPDX-License-Identifier: Apache-2.0
//! Wrappers of the registry client that shorten lifetimes, or leave something out on purpose.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm::{
    api::{
        Inode,
        pb::registry::{
            NetworkService, NetworkServiceEndpoint,
            network_service_endpoint_registry_client::NetworkServiceEndpointRegistryClient as Endpoints,
        },
    },
    registry::{Client, Error, Found, Registry, TokenPath},
    transport::{Dialer, SendFds, origin},
};
use rustix::fs::{Mode, OFlags};
use tokio::time::Instant;

/// A registry whose entries expire soon, so that a refresh comes soon.
#[derive(Clone)]
pub(crate) struct ShortLived<R> {
    pub(crate) inner: R,
    pub(crate) life: Duration,
}

impl<R: Registry> Registry for ShortLived<R> {
    async fn register_service(&self, service: NetworkService) -> Result<(), Error> {
        self.inner.register_service(service).await
    }

    async fn find_service(&self, name: &str) -> Result<Option<NetworkService>, Error> {
        self.inner.find_service(name).await
    }

    async fn register(
        &self,
        mut endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(NetworkServiceEndpoint, TokenPath), Error> {
        endpoint.expiration_time = Some((SystemTime::now() + self.life).into());
        self.inner.register(endpoint, socket, path).await
    }

    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(), Error> {
        self.inner.unregister(endpoint, socket, path).await
    }

    async fn find(&self, like: NetworkServiceEndpoint, watch: bool) -> Result<Found, Error> {
        self.inner.find(like, watch).await
    }
}

/// A registry client that writes its Register by hand, with or without the `path` header.
#[derive(Clone)]
pub(crate) struct ByHand {
    pub(crate) inner: Client,
    pub(crate) dialer: Dialer,
    pub(crate) header: bool,
}

impl Registry for ByHand {
    async fn register_service(&self, service: NetworkService) -> Result<(), Error> {
        self.inner.register_service(service).await
    }

    async fn find_service(&self, name: &str) -> Result<Option<NetworkService>, Error> {
        self.inner.find_service(name).await
    }

    async fn register(
        &self,
        mut endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(NetworkServiceEndpoint, TokenPath), Error> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let wire = self.dialer.dial(deadline).await?;
        let mut fds = Vec::new();
        if let Some(socket) = socket {
            let failed = |source: std::io::Error| Error::Socket { path: socket.to_owned(), source };
            let file = rustix::fs::open(socket, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let file = file.map_err(|error| failed(error.into()))?;
            endpoint.url = Inode::of(&file).map_err(failed)?.to_string();
            fds.push(Arc::new(file));
        }
        let mut request = wire.call(endpoint, Some(deadline), self.dialer.token_lifetime)?;
        request.extensions_mut().insert(SendFds(fds));
        if self.header {
            path.write(request.metadata_mut());
        }
        let answer = Endpoints::with_origin(wire, origin()).register(request).await?;
        let path = TokenPath::read(answer.metadata()).ok().flatten().unwrap_or(path);
        Ok((answer.into_inner(), path))
    }

    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(), Error> {
        self.inner.unregister(endpoint, socket, path).await
    }

    async fn find(&self, like: NetworkServiceEndpoint, watch: bool) -> Result<Found, Error> {
        self.inner.find(like, watch).await
    }
}
